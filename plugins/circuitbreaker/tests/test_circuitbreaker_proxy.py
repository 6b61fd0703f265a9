"""Outcomes in, decisions out; time stands still unless it is moved."""

from typing import Any, cast

import pytest
from maesh_circuitbreaker import CircuitBreakerSettings
from maesh_circuitbreaker.expression import TEXT_LIMIT, Parser
from maesh_circuitbreaker.hooks import ProxyHalf
from maesh_circuitbreaker.proxy import CircuitBreaker
from maesh_circuitbreaker.settings import ServiceBreaker

from maesh_core.plugin import Response, UpstreamNotReachedError, UpstreamTimeoutError
from maesh_testing import FakeExchange, FakeNode

EXPRESSION = "ResponseCodeRatio(500, 600, 0, 600) > 0.5"


class World:
    """A node of two workers with a clock."""

    def __init__(self):
        self.node = FakeNode(workers=2)

    def start_worker(self, expression=EXPRESSION, *, slot=0, name="shop/cart", check_period=0.1):
        settings = ServiceBreaker(
            expression=expression, check_period=check_period, fallback_duration=10, recovery_duration=10
        )
        half = ProxyHalf(CircuitBreakerSettings())
        (factory,) = half.maesh_middleware_factories(self.node.get_worker(slot))
        breaker = factory.build_middleware(settings, name)
        assert isinstance(breaker, CircuitBreaker)
        breaker._time = self.node.read_time
        return breaker

    def pass_time(self, seconds):
        self.node.pass_time(seconds)


@pytest.fixture
def world():
    return World()


def respond(breaker, status, seconds=0.0, count=1):
    """Bring responses; return what the last one was answered with."""
    return [breaker.on_response(FakeExchange(status=status, attempt_seconds=seconds)) for _ in range(count)][-1]


def is_open(breaker):
    answer = breaker.on_request(FakeExchange())
    assert answer is None or isinstance(answer, Response)
    return answer is not None


def test_a_breaker_that_sees_successes_stays_closed(world):
    breaker = world.start_worker()
    for _ in range(100):
        assert not is_open(breaker)
        assert respond(breaker, 200) is None
        world.pass_time(0.05)
    assert "closed" in repr(breaker)


def test_the_first_response_is_judged_at_once_and_the_open_breaker_refuses_with_503(world, caplog):
    breaker = world.start_worker()
    assert respond(breaker, 500) is False
    answer = breaker.on_request(FakeExchange())
    assert (answer.status, dict(answer.headers)) == (503, {b"Retry-After": b"10"})
    assert "circuit breaker of shop/cart: open" in caplog.text


def test_the_condition_is_looked_at_once_in_a_check_period_at_most(world):
    breaker = world.start_worker()
    assert respond(breaker, 200) is None
    world.pass_time(0.0999)
    assert respond(breaker, 500, count=10) is None
    assert not is_open(breaker)
    world.pass_time(0.0002)
    assert respond(breaker, 500) is False
    assert is_open(breaker)


def test_it_opens_recovers_and_closes_at_the_times_that_its_settings_say(world):
    breaker = world.start_worker()
    respond(breaker, 500)
    world.pass_time(9.999)
    assert is_open(breaker)
    world.pass_time(0.002)
    assert is_open(breaker)  # the ramp begins at nothing
    assert "recovering" in repr(breaker)
    world.pass_time(9.9)
    is_open(breaker)
    assert "recovering" in repr(breaker)
    world.pass_time(0.11)
    assert not is_open(breaker)
    assert "closed" in repr(breaker)


def test_while_recovering_a_share_passes_that_grows_to_one_half(world):
    breaker, passed = world.start_worker(), []
    respond(breaker, 500)
    world.pass_time(10.0)
    is_open(breaker)
    for _ in range(1000):
        world.pass_time(0.00999)
        passed.append(not is_open(breaker))
        if passed[-1]:
            respond(breaker, 200)
    assert passed[:50].count(True) <= 3
    assert 0.2 < passed.count(True) / 1000 < 0.5
    assert passed[-100:].count(True) / 100 > passed[300:400].count(True) / 100


def test_failures_while_recovering_open_it_again(world):
    breaker = world.start_worker()
    respond(breaker, 500)
    world.pass_time(10.0)
    is_open(breaker)
    world.pass_time(5.0)
    assert respond(breaker, 500) is False
    world.pass_time(9.9)
    assert is_open(breaker)


def test_what_was_counted_before_it_opened_counts_no_more_afterwards(world):
    breaker = world.start_worker("NetworkErrorRatio() > 0.1")
    respond(breaker, 502, count=100)
    for _ in range(2):
        world.pass_time(10.0)
        is_open(breaker)
    world.pass_time(0.01)
    assert not is_open(breaker)
    assert respond(breaker, 200) is None


def test_an_open_breaker_ends_the_retrying_whoever_opened_it(world):
    first, second = world.start_worker(slot=0), world.start_worker(slot=1)
    assert second.on_attempt_failed(FakeExchange(), UpstreamNotReachedError("x")) is False
    assert second.on_attempt(FakeExchange()).status == 503
    assert respond(first, 200) is False
    assert is_open(first)


def test_workers_count_together_each_in_its_own_part(world):
    first, second = world.start_worker(slot=0), world.start_worker(slot=1)
    respond(first, 200, count=10)
    world.pass_time(0.2)
    assert respond(first, 200) is None
    assert respond(second, 500, count=9) is None
    world.pass_time(0.2)
    assert respond(second, 500, count=3) is None
    world.pass_time(0.2)
    assert respond(second, 500) is False
    assert is_open(first)


def test_a_worker_that_takes_the_place_of_a_dead_one_finds_the_breaker_as_it_was(world):
    respond(world.start_worker(), 500)
    assert is_open(world.start_worker())
    assert not is_open(world.start_worker(name="shop/other"))


@pytest.mark.parametrize("error", [UpstreamNotReachedError("x"), UpstreamTimeoutError("x")], ids=type)
def test_attempts_without_a_response_are_network_errors(world, error):
    breaker = world.start_worker("NetworkErrorRatio() > 0.5")
    assert breaker.on_attempt_failed(FakeExchange(), error) is False


@pytest.mark.parametrize(
    ("expression", "statuses", "is_opened"),
    [
        ("NetworkErrorRatio() > 0.3", [502, 504, 200, 200], True),
        ("NetworkErrorRatio() > 0.3", [503, 500, 200, 200], False),
        ("ResponseCodeRatio(500, 504, 200, 600) >= 0.4", [503, 504, 200, 200], False),
        ("ResponseCodeRatio(500, 505, 200, 600) >= 0.4", [503, 504, 200, 200], True),
        ("ResponseCodeRatio(400, 500, 500, 600) > 0.0", [400, 200, 200], False),
        ("ResponseCodeRatio(400, 500, 500, 600) > 1.5", [400, 404, 500], True),
        ("ResponseCodeRatio(600, 500, 0, 600) > 0.0", [500], False),
    ],
)
def test_ratios_are_those_of_the_statuses(world, expression, statuses, is_opened):
    breaker = world.start_worker(expression)
    respond(breaker, 200)
    world.pass_time(1.0)
    breaker = world.start_worker(expression)
    breaker._checked_at = world.node.clock.now
    for status in statuses[:-1]:
        respond(breaker, status)
    world.pass_time(0.2)
    assert (respond(breaker, statuses[-1]) is False) is is_opened


@pytest.mark.parametrize(("limit_ms", "is_opened"), [(90, True), (100, False), (5, True)])
def test_latencies_are_those_of_the_last_minute(world, limit_ms, is_opened):
    breaker = world.start_worker(f"LatencyAtQuantileMS(50.0) > {limit_ms}")
    breaker._checked_at = world.node.clock.now
    respond(breaker, 200, 0.1, count=60)
    respond(breaker, 200, 0.001, count=40)
    world.pass_time(0.2)
    assert (respond(breaker, 200, 0.1) is False) is is_opened


def test_latencies_are_forgotten_after_a_minute(world):
    breaker = world.start_worker("LatencyAtQuantileMS(50.0) > 10")
    breaker._checked_at = world.node.clock.now
    respond(breaker, 200, 0.1, count=60)
    world.pass_time(61)
    assert respond(breaker, 200, 0.001) is None


def test_counts_are_forgotten_after_ten_seconds(world):
    breaker = world.start_worker("NetworkErrorRatio() > 0.5")
    respond(breaker, 200)
    respond(breaker, 502, count=10)
    world.pass_time(11)
    assert respond(breaker, 200) is None
    assert not is_open(breaker)


def test_a_long_check_period_judges_all_attempts_of_the_last_ten_seconds(world):
    breaker = world.start_worker("NetworkErrorRatio() > 0.5", check_period=15.0)
    respond(breaker, 200)
    for _ in range(149):
        world.pass_time(0.1)
        assert respond(breaker, 502) is None
    world.pass_time(0.2)
    assert respond(breaker, 200) is False


def test_each_recovery_begins_at_nothing_in_every_worker(world):
    first, second = world.start_worker(slot=0), world.start_worker(slot=1)
    for _ in range(2):
        respond(first, 500)
        world.pass_time(10.0)
        assert is_open(first)
        world.pass_time(1.0)
        passed = [not is_open(second) for _ in range(1000)]
        assert 0.03 < passed.count(True) / 1000 < 0.07
        world.pass_time(1.0)


def test_a_longest_expression_is_read():
    text = "NetworkErrorRatio() > 0.5"
    assert Parser(text.ljust(TEXT_LIMIT)).parse()


# --- gRPC


@pytest.mark.parametrize("status", [2, 13, 14, 15])
def test_a_call_counts_as_the_http_status_of_its_grpc_status(world, status):
    breaker = world.start_worker()
    assert breaker.on_response(FakeExchange(status=200, is_grpc=True, grpc_status=status)) is False
    assert is_open(breaker)


@pytest.mark.parametrize("status", [0, 1, 3, 5, 7, 8, 16])
def test_a_call_whose_status_is_no_failure_of_the_server_leaves_it_closed(world, status):
    breaker = world.start_worker()
    assert breaker.on_response(FakeExchange(status=200, is_grpc=True, grpc_status=status)) is None
    assert not is_open(breaker)


def test_a_call_whose_status_is_in_the_trailers_counts_at_its_end(world):
    breaker = world.start_worker()
    call = FakeExchange(status=200, is_grpc=True)
    assert breaker.on_response(call) is None
    assert not is_open(breaker)
    call.grpc_status = 14
    breaker.on_finished(call)
    assert is_open(breaker)
    assert not breaker._calls


def test_the_end_of_a_call_that_was_counted_and_of_other_requests_counts_nothing(world):
    breaker = world.start_worker()
    known = FakeExchange(status=200, is_grpc=True, grpc_status=0)
    assert breaker.on_response(known) is None
    known.grpc_status = 14
    breaker.on_finished(known)
    breaker.on_finished(FakeExchange(status=503, is_grpc=True, grpc_status=14))
    breaker.on_finished(FakeExchange(status=503))
    world.pass_time(0.2)
    assert respond(breaker, 200) is None


def read_open(factory):
    (family,) = factory.collect_metrics()
    return dict(family.samples)


def build_factories(world, workers=2):
    half = ProxyHalf(CircuitBreakerSettings())
    factories = [half.maesh_middleware_factories(world.node.get_worker(slot))[0] for slot in range(workers)]
    settings = ServiceBreaker(expression=EXPRESSION, check_period=0.1, fallback_duration=10, recovery_duration=10)
    breakers = [factory.build_middleware(settings, "shop/cart") for factory in factories]
    for breaker in breakers:
        cast("Any", breaker)._time = world.node.read_time
    return factories, breakers


def test_an_open_breaker_is_reported_for_each_port_by_the_workers_that_had_requests(world):
    factories, (first, second) = build_factories(world)
    assert read_open(factories[0]) == {}
    first.on_response(FakeExchange(service="shop/cart:80", status=500))
    first.on_request(FakeExchange(service="shop/cart:81"))
    assert read_open(factories[0]) == {("shop/cart:80",): 1, ("shop/cart:81",): 1}
    assert read_open(factories[1]) == {}
    second.on_request(FakeExchange(service="shop/cart:80"))
    assert read_open(factories[1]) == {("shop/cart:80",): 1}


def test_a_breaker_whose_time_is_over_is_not_reported_even_without_a_request(world):
    (factory, _), (breaker, _) = build_factories(world)
    breaker.on_response(FakeExchange(service="shop/cart:80", status=500))
    assert factory._opened
    world.pass_time(10.0)
    assert read_open(factory) == {}
    assert not factory._opened  # a breaker that was replaced is not kept
