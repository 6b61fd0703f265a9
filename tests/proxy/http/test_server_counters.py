"""The counters of servers, and the metrics made of them."""

from collections.abc import Mapping
from typing import Any

import hypothesis.strategies as st
from hypothesis import given

from maesh_core.proxy.http.server_counters import ServerCounters, collect_servers

RESPONSES = st.lists(
    st.tuples(st.sampled_from(["10.0.1.1:80", "10.0.1.2:80"]), st.integers(100, 599), st.floats(0.0, 9.0))
)


def read(*servers: tuple[str, ServerCounters], exact: bool = False, durations: bool = True) -> Mapping[str, Any]:
    families = collect_servers(servers, has_exact_codes=exact, has_durations=durations)
    return {family.name.removeprefix("maesh_server_"): dict(family.samples) for family in families}


def count(*statuses: int) -> ServerCounters:
    counters = ServerCounters()
    for status in statuses:
        counters.count_response(status, 0.004)
    return counters


def test_attempts_are_counted_by_outcome_and_responses_by_class() -> None:
    counters = count(200, 204, 404, 503)
    counters.failures = 2
    found = read(("a:80", counters))
    assert found["attempts"] == {("a:80", "error"): 1, ("a:80", "failure"): 2, ("a:80", "response"): 3}
    assert found["responses"] == {("a:80", "2xx"): 2, ("a:80", "4xx"): 1, ("a:80", "5xx"): 1}
    assert read(("a:80", counters), exact=True)["responses"]["a:80", "204"] == 1


def test_only_what_was_counted_has_a_sample() -> None:
    assert not any(read(("a:80", ServerCounters())).values())


def test_bytes_and_responses_that_failed_later_have_metrics() -> None:
    counters = count(200)
    counters.received_bytes, counters.sent_bytes, counters.failed_responses = 5, 7, 1
    found = read(("a:80", counters))
    assert [found[name]["a:80",] for name in ("request_bytes", "response_bytes", "failed_responses")] == [5, 7, 1]


def test_durations_are_left_out_unless_they_are_wanted() -> None:
    assert "attempt_duration_seconds" not in read(("a:80", count(200)), durations=False)


def test_servers_of_one_address_are_reported_together_and_keep_their_own_counts() -> None:
    servers = [count(200), count(200, 500), count(404)]
    for server in servers:
        server.failures = server.failed_responses = server.received_bytes = server.sent_bytes = 1
    for _ in range(2):
        found = read(*(("a:80", each) for each in servers))
        assert found["attempts"] == {("a:80", "error"): 1, ("a:80", "failure"): 3, ("a:80", "response"): 3}
        assert sum(found["attempt_duration_seconds"]["a:80",].counts) == 4
        assert [found[name]["a:80",] for name in ("request_bytes", "response_bytes", "failed_responses")] == [3, 3, 3]


@given(RESPONSES, st.booleans())
def test_durations_codes_and_outcomes_count_the_same_responses(responses: Any, exact: bool) -> None:
    servers: dict[str, ServerCounters] = {}
    for label, status, seconds in responses:
        servers.setdefault(label, ServerCounters()).count_response(status, seconds)
    found = read(*servers.items(), exact=exact)
    for label in servers:
        wanted = sum(each == label for each, *_ in responses)
        assert sum(found["attempt_duration_seconds"][label,].counts) == wanted
        for name in ("responses", "attempts"):
            assert sum(number for (server, _), number in found[name].items() if server == label) == wanted
