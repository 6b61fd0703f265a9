"""Failed attempts in, another attempt or none out."""

import random

import pytest
from maesh_retry.proxy import RESERVE, RetryFactory
from maesh_retry.settings import ServiceRetry

from maesh_core.errors import ConnectTimeoutError
from maesh_core.plugin import Middleware, UpstreamNotReachedError, UpstreamProtocolError, UpstreamTimeoutError
from maesh_testing import FakeExchange

REFUSED, RESET, LATE = UpstreamNotReachedError("x"), UpstreamProtocolError("x"), UpstreamTimeoutError("x")


def exchange(method=b"GET", **state):
    return FakeExchange(method, **{"attempts": 1, **state})


def build(**changes):
    settings = {
        "attempts": 3,
        "errors": ("connect-failure", "reset", "timeout"),
        "statuses": ((500, 503),),
        "timeout_s": 0.0,
        "body_limit": 10,
        "backoff_s": 0.0,
        "backoff_limit_s": 1.0,
        "budget": 0.0,
    }
    return RetryFactory().build_middleware(ServiceRetry(**{**settings, **changes}), "shop/cart:80")


@pytest.mark.parametrize("error", [REFUSED, RESET, LATE], ids=type)
def test_an_idempotent_request_has_another_attempt_after_any_error_that_is_named(error):
    assert build().on_attempt_failed(exchange(), error) == 0.0


@pytest.mark.parametrize(
    ("errors", "error"), [(("reset", "timeout"), REFUSED), (("connect-failure",), RESET), (("reset",), LATE)]
)
def test_an_error_that_is_not_named_has_none(errors, error):
    assert build(errors=errors).on_attempt_failed(exchange(), error) is None


def test_what_is_not_idempotent_is_repeated_only_where_nothing_can_have_reached_a_server():
    retry, post = build(), exchange(b"POST", status=503)
    assert retry.on_attempt_failed(post, REFUSED) == 0.0
    assert retry.on_attempt_failed(post, RESET) is None
    assert retry.on_attempt_failed(post, LATE) is None
    assert retry.on_response(post) is None


def call(**state):
    return exchange(b"POST", status=200, is_grpc=True, **state)


@pytest.mark.parametrize(("status", "pause_s"), [(14, 0.0), (1, 0.0), (4, None), (0, None), (None, None)])
def test_a_call_is_repeated_after_a_grpc_status_that_is_named_whatever_its_method(status, pause_s):
    retry = build(statuses=(), errors=(), grpc_statuses=(1, 14))
    assert retry.on_response(call(grpc_status=status)) == pause_s


@pytest.mark.parametrize(
    ("named", "error", "pause_s"),
    [
        (14, REFUSED, 0.0),
        (14, RESET, 0.0),
        (14, LATE, None),
        (4, LATE, 0.0),
        (4, RESET, None),
        (4, ConnectTimeoutError("x"), 0.0),
        (8, REFUSED, None),
    ],
)
def test_an_error_of_the_mesh_counts_as_the_grpc_status_that_it_becomes(named, error, pause_s):
    retry = build(statuses=(), errors=(), grpc_statuses=(named,))
    assert retry.on_attempt_failed(call(), error) == pause_s
    assert retry.on_attempt_failed(exchange(b"GET"), error) is None


def test_a_call_whose_request_is_lost_or_that_had_its_attempts_is_not_repeated():
    retry = build(grpc_statuses=(14,))
    assert retry.on_response(call(grpc_status=14, can_repeat=False)) is None
    assert retry.on_response(call(grpc_status=14, attempts=3)) is None


@pytest.mark.parametrize(("status", "pause_s"), [(500, 0.0), (503, 0.0), (504, None), (200, None)])
def test_a_response_is_given_up_for_its_status_alone(status, pause_s):
    assert build().on_response(exchange(status=status)) == pause_s


def test_attempts_end_at_their_number_and_where_the_request_cannot_be_repeated():
    retry = build()
    assert retry.on_attempt_failed(exchange(attempts=2), REFUSED) == 0.0
    assert retry.on_attempt_failed(exchange(attempts=3), REFUSED) is None
    assert retry.on_attempt_failed(exchange(can_repeat=False), REFUSED) is None


def test_what_no_setting_needs_is_not_called():
    plain = build(statuses=())
    assert type(plain).on_request is Middleware.on_request
    assert type(plain).on_response is Middleware.on_response
    assert plain.kept_bytes == 10


def test_each_attempt_gets_the_services_time():
    request = exchange()
    assert build(timeout_s=2.0).on_request(request) is None
    assert request.attempt_timeout_s == 2.0


@pytest.mark.parametrize(
    ("choose", "expected"), [(min, [0, 0, 0, 0, 0]), (max, [0.1, 0.2, 0.4, 0.5, 0.5])], ids=["shortest", "longest"]
)
def test_pauses_grow_and_are_spread_out(monkeypatch, choose, expected):
    monkeypatch.setattr(random, "uniform", lambda low, high: choose(float(low), high))
    retry = build(attempts=9, backoff_s=0.1, backoff_limit_s=0.5)
    pauses = [retry.on_attempt_failed(exchange(attempts=number), REFUSED) for number in range(1, 6)]
    assert pauses == expected


def test_a_budget_lets_no_more_than_its_share_of_the_requests_be_repeated():
    retry, repeated = build(budget=0.2), 0
    for _ in range(1000):
        request = exchange()
        retry.on_request(request)
        while retry.on_attempt_failed(request, REFUSED) is not None:
            request.attempts += 1
            repeated += 1
    assert 199 <= repeated <= 200


def test_what_cannot_be_repeated_costs_nothing_of_the_budget():
    retry = build(budget=1.0)
    retry.on_request(exchange())
    assert retry.on_attempt_failed(exchange(can_repeat=False), REFUSED) is None
    assert retry.on_attempt_failed(exchange(), REFUSED) == 0.0
    assert retry.on_attempt_failed(exchange(), REFUSED) is None


def test_a_quiet_time_saves_up_no_more_than_the_reserve():
    retry = build(budget=0.5, attempts=100)
    for _ in range(10_000):
        retry.on_request(exchange())
    repeated = 0
    while retry.on_attempt_failed(exchange(), REFUSED) is not None:
        repeated += 1
    assert repeated == RESERVE


def test_a_budget_alone_leaves_an_attempts_time_to_others():
    request = exchange()
    request.attempt_timeout_s = 1.5
    build(budget=0.2).on_request(request)
    assert request.attempt_timeout_s == 1.5


@pytest.mark.parametrize(
    ("choose", "expected"), [(min, [0.2, 0.4, 0.5, 0.5]), (max, [0.25, 0.5, 0.625, 0.625])], ids=["shortest", "longest"]
)
def test_pauses_with_a_least_duration_are_never_shorter(monkeypatch, choose, expected):
    monkeypatch.setattr(random, "uniform", lambda low, high: choose(float(low), high))
    retry = build(attempts=9, backoff_least_s=0.2, backoff_limit_s=0.5)
    assert [retry.on_attempt_failed(exchange(attempts=number), REFUSED) for number in range(1, 5)] == expected
    longer = build(attempts=9, backoff_least_s=2.0, backoff_limit_s=0.5)
    pauses = [longer.on_attempt_failed(exchange(attempts=number), REFUSED) for number in range(1, 4)]
    assert pauses == [2.0 * (1.0 if choose is min else 1.25)] * 3
