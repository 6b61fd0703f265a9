"""Settings in, time-outs of exchanges out."""

from maesh_timeout.proxy import TimeoutFactory
from maesh_timeout.settings import ServiceTimeout

from maesh_testing import FakeExchange


def test_a_request_gets_the_time_outs():
    exchange = FakeExchange()
    timeout = TimeoutFactory().build_middleware(ServiceTimeout(request_s=10.0, attempt_s=2.0), "shop/cart")
    assert timeout.on_request(exchange) is None
    assert (exchange.timeout_s, exchange.attempt_total_s) == (10.0, 2.0)
