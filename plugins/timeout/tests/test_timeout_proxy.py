"""Settings in, time-outs of exchanges out."""

import math

import pytest
from maesh_timeout.proxy import TimeoutFactory
from maesh_timeout.settings import ServiceTimeout

from maesh_testing import FakeExchange


def test_a_request_gets_the_time_outs():
    exchange = FakeExchange()
    timeout = TimeoutFactory().build_middleware(ServiceTimeout(request_s=10.0, attempt_s=2.0), "shop/cart")
    assert timeout.on_request(exchange) is None
    assert (exchange.timeout_s, exchange.attempt_total_s) == (10.0, 2.0)


@pytest.mark.parametrize(("seconds", "expected"), [(None, 0.0), (0.0, math.inf)])
def test_no_time_out_is_the_proxy_s_own_limit_and_zero_is_any_time(seconds, expected):
    exchange = FakeExchange()
    settings = ServiceTimeout(request_s=seconds, attempt_s=seconds)
    TimeoutFactory().build_middleware(settings, "shop/cart").on_request(exchange)
    assert (exchange.timeout_s, exchange.attempt_total_s) == (expected, expected)
