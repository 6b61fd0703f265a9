"""The shipped middlewares together on one service, in a real mesh: what each sees of a request, and of its attempts."""

import re
from importlib.metadata import entry_points

import pytest

from maesh_core.model.annotations import PREFIXES
from maesh_testing import Upstream, find_free_port

pytestmark = pytest.mark.integration

ON_ERRORS = {"retry-attempts": "3", "retry-on": "connect-failure, 5xx"}
FIVE = {"ratelimit-average": "5", "ratelimit-period": "1h"}
BREAKER = {"circuit-breaker-expression": "ResponseCodeRatio(500, 600, 0, 600) > 0.5"}


@pytest.fixture(autouse=True)
def installed():
    """Skip where one of the plugins is not installed: they do not need each other."""
    for name in ("retry", "ratelimit", "circuitbreaker"):
        if not entry_points(group="maesh.plugins", name=name):
            pytest.skip(f"the plugin {name} is not installed")


@pytest.fixture
def start_combined(start_mesh):
    """Start a mesh of one worker whose service has these annotations; passive health is off unless asked for."""

    def start(*annotations, flags=("--no-passive-health",), **options):
        merged = {name: text for each in annotations for name, text in each.items()}
        mesh = start_mesh("--workers", "1", *flags, annotations=merged, **options)
        assert mesh.describe_service()["errors"] == []
        return mesh

    return start


def count_statuses(mesh, requests):
    statuses = [mesh.get().status for _ in range(requests)]
    return {status: statuses.count(status) for status in sorted(set(statuses))}


def count_retries(mesh):
    (count,) = re.findall(
        r'^maesh_service_retries_total{service="test/app:80"} (\d+)', mesh.read_metrics(), re.MULTILINE
    )
    return int(count)


@pytest.fixture
def one_of_two_is_down(start_upstream):
    """Return two servers, one of which refuses every connection."""
    up, down = start_upstream("up"), start_upstream("down")
    down.close()
    return up, down


def test_without_retry_half_of_the_requests_meet_the_server_that_is_down(start_combined, one_of_two_is_down):
    assert count_statuses(start_combined(servers=one_of_two_is_down), 40) == {200: 20, 502: 20}


def test_with_two_attempts_no_request_fails(start_combined, one_of_two_is_down):
    mesh = start_combined({"retry-attempts": "2"}, servers=one_of_two_is_down)
    assert count_statuses(mesh, 40) == {200: 40}
    assert count_retries(mesh) >= 20


def test_a_budget_limits_the_further_attempts_and_lets_the_other_errors_pass(start_combined, one_of_two_is_down):
    flags = ("--no-passive-health", "--set", "retry.budget=20")
    mesh = start_combined({"retry-attempts": "2"}, servers=one_of_two_is_down, flags=flags)
    statuses = count_statuses(mesh, 100)
    assert 15 <= count_retries(mesh) <= 20
    assert statuses[502] >= 30
    assert mesh.upstreams[0].count == statuses[200] == 100 - statuses[502]


def test_a_token_is_for_a_request_however_often_it_is_sent(start_combined):
    mesh = start_combined(ON_ERRORS, FIVE)
    mesh.upstreams[0].status = 500
    assert count_statuses(mesh, 8) == {429: 3, 500: 5}
    assert mesh.upstreams[0].count == 15


def test_what_the_limit_refuses_does_not_open_the_breaker(start_combined):
    mesh = start_combined(FIVE, {"circuit-breaker-expression": "ResponseCodeRatio(400, 600, 0, 600) > 0.1"})
    assert count_statuses(mesh, 20) == {200: 5, 429: 15}


def test_what_the_breaker_refuses_has_taken_its_token(start_combined):
    mesh = start_combined(FIVE, BREAKER)
    mesh.upstreams[0].status = 500
    assert [mesh.get().status for _ in range(7)] == [500, 503, 503, 503, 503, 429, 429]
    assert mesh.upstreams[0].count == 1


def test_the_breaker_sees_each_attempt_and_ends_the_retrying(start_combined):
    mesh = start_combined({**ON_ERRORS, "retry-attempts": "9"}, BREAKER)
    mesh.upstreams[0].status = 500
    first, second = mesh.get(), mesh.get()
    assert (first.status, first.text) == (500, "app-1")
    assert (second.status, second.headers["X-Maesh-Reason"]) == (503, "the circuit breaker is open")
    assert mesh.upstreams[0].count == 1


def test_attempts_that_the_client_never_hears_of_count_in_the_breaker(start_combined, one_of_two_is_down):
    expression = {"circuit-breaker-expression": "NetworkErrorRatio() > 0.4"}
    flags = ("--no-passive-health", "--set", "circuitbreaker.check-period=1ms")
    mesh = start_combined({"retry-attempts": "2"}, expression, servers=one_of_two_is_down, flags=flags)
    assert 503 in [mesh.get().status for _ in range(10)]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_all_three_act_together_under_either_prefix(start_combined, prefix):
    annotations = {f"{prefix}{name}": text for name, text in {**ON_ERRORS, **FIVE, **BREAKER}.items()}
    flags = ("--no-passive-health", "--set", "circuitbreaker.check-period=1h")
    mesh = start_combined(annotations, flags=flags)
    assert mesh.get().status == 200  # the breaker looks now, and not again for an hour
    mesh.upstreams[0].status = 500
    assert count_statuses(mesh, 6) == {429: 2, 500: 4}
    assert mesh.upstreams[0].count == 1 + 4 * 3


def test_prefixes_may_be_mixed_and_a_bad_value_of_one_closes_the_service_whatever_the_others_say(start_mesh):
    annotations = {f"{PREFIXES[0]}retry-attempts": "3", f"{PREFIXES[1]}ratelimit-average": "many"}
    mesh = start_mesh(annotations=annotations)
    assert mesh.get().status == 404
    (error,) = mesh.describe_service()["errors"]
    assert error == "annotation ratelimit-average: 'many' is not a whole number from 1 to 1000000000"


def test_each_goes_away_without_the_others(start_combined):
    mesh = start_combined(ON_ERRORS, FIVE, BREAKER, flags=("--no-ratelimit",))
    assert count_statuses(mesh, 20) == {200: 20}
    assert any("ratelimit-average" in notice for notice in mesh.describe_service()["notices"])


def test_a_body_is_sent_again_as_it_was(start_combined, start_upstream):
    down = Upstream("down", find_free_port())
    down.close()
    mesh = start_combined({"retry-attempts": "2"}, servers=(down, start_upstream("up")))
    bodies = [f"{number}".encode() * 1000 for number in range(10)]
    assert [mesh.send("POST", body=body).status for body in bodies] == [200] * 10
    assert [request.body for request in mesh.upstreams[1].requests] == bodies
