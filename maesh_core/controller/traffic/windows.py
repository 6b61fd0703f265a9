"""Builds the windows of a report: takes counts, and returns what was counted for a service, branch, server or caller.

A request fails with a status of 500 or above, or if it is a gRPC call whose status blames the server. Pure values.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from maesh_core.controller.traffic import wanted_metrics as metrics
from maesh_core.controller.traffic.latency import build_latency
from maesh_core.controller.traffic.sums import Counts, Labels
from maesh_core.model.grpc_statuses import GRPC_SERVER_ERRORS
from maesh_core.model.traffic import Window

BLAMING_STATUSES: Final = frozenset(map(str, GRPC_SERVER_ERRORS))
"""The values of the label `grpc_status` that blame the server."""
LIMITED: Final = "429"
DENIED: Final = "403"
NO_RESPONSE: Final = "no response"
"""The reason of a server's attempts without a response."""
NO_SERVER: Final = "no server accepted it"
"""The reason of TCP connections and UDP sessions for which there was no server."""


def build_service_window(counts: Counts, key: str, *, is_http: bool) -> Window:
    """Build the window of a service port."""
    return _build_http_window(counts, key) if is_http else _build_stream_window(counts, key)


def _build_http_window(counts: Counts, key: str) -> Window:
    codes = _sum_by(counts.find(metrics.REQUESTS, key), 0)
    grpc = _sum_by(counts.find(metrics.CALLS, key), 0)
    answers = counts.find(metrics.ANSWERS, key)
    answered = _sum_by(answers, 0)
    requests = sum(codes.values())
    if not (requests or answered or grpc):
        return Window(seconds=counts.seconds)
    return Window(
        seconds=counts.seconds,
        requests=requests,
        rate=_divide(requests, counts.seconds),
        success=find_success(requests, count_failures(codes, grpc)),
        codes=codes,
        grpc=grpc,
        total=build_latency(counts.find_buckets(metrics.DURATIONS, key)),
        upstream=build_latency(counts.find_buckets(metrics.UPSTREAM_DURATIONS, key)),
        retries=counts.count(metrics.RETRIES, key),
        limited=answered.get(LIMITED, 0),
        denied=answered.get(DENIED, 0),
        reasons=dict(Counter(_sum_by(answers, 1)) + Counter(_sum_by(counts.find(metrics.CUTS, key), 0))),
        received_bytes=counts.count(metrics.RECEIVED_BYTES, key),
        sent_bytes=counts.count(metrics.SENT_BYTES, key),
    )


def _build_stream_window(counts: Counts, key: str) -> Window:
    """Build the window of a TCP or UDP service, whose traffic is connections or sessions."""

    def count(*names: str) -> int:
        return sum(counts.count(name, key) for name in names)

    denials = _sum_by(counts.find(metrics.DENIED, key), 0)
    refused = count(metrics.TCP_REFUSED, metrics.UDP_REFUSED)
    connections = count(metrics.TCP_CONNECTIONS, metrics.UDP_SESSIONS)
    return Window(
        seconds=counts.seconds,
        rate=_divide(connections, counts.seconds),
        denied=sum(denials.values()),
        reasons={**denials, **({NO_SERVER: refused} if refused else {})},
        received_bytes=count(metrics.TCP_RECEIVED, metrics.UDP_RECEIVED),
        sent_bytes=count(metrics.TCP_SENT, metrics.UDP_SENT),
        connections=connections,
    )


def build_branch_window(counts: Counts, key: str, destination: str) -> Window:
    """Build the window of one destination of a service port."""
    found = counts.find(metrics.BRANCHES, key)
    codes = {code: number for (name, code), number in sorted(found.items()) if name == destination and number}
    return build_plain_window(counts.seconds, sum(codes.values()), count_failures(codes, {}), codes=codes)


def build_server_window(counts: Counts, server: str) -> Window:
    """Build the window of a server: its attempts are the requests, those without a response or with a 5xx failed."""
    outcomes = _sum_by(counts.find(metrics.ATTEMPTS, server), 0)
    failures, errors = outcomes.get("failure", 0), outcomes.get("error", 0)
    return build_plain_window(
        counts.seconds,
        sum(outcomes.values()),
        failures + errors,
        codes={"5xx": errors} if errors else {},
        reasons={NO_RESPONSE: failures} if failures else {},
    )


def build_edge_window(counts: Counts, service: str, clients: Iterable[str]) -> Window:
    """Build the window of some clients of a service port."""
    requests = failures = connections = 0
    for client in clients:
        requests += counts.count(metrics.EDGES, service, client)
        failures += counts.count(metrics.EDGE_FAILURES, service, client)
        connections += counts.count(metrics.EDGE_CONNECTIONS, service, client)
    return build_plain_window(counts.seconds, requests, failures, connections=connections)


def build_plain_window(
    seconds: float,
    requests: int,
    failures: int,
    *,
    connections: int = 0,
    codes: Mapping[str, int] | None = None,
    reasons: Mapping[str, int] | None = None,
) -> Window:
    """Build a window of requests and failures, or of connections."""
    return Window(
        seconds=seconds,
        requests=requests,
        rate=_divide(requests or connections, seconds),
        success=find_success(requests, failures),
        codes=codes or {},
        reasons=reasons or {},
        connections=connections,
    )


def count_failures(codes: Mapping[str, int], grpc: Mapping[str, int]) -> int:
    """Count the failed requests.

    A gRPC call with a 5xx also has a status that blames the server, so it is counted by that status. How many of the
    5xx were no calls is not counted; it is at most the number of requests that were no calls.
    """
    errors = sum(number for code, number in codes.items() if code >= "5")
    blaming = sum(number for status, number in grpc.items() if status in BLAMING_STATUSES)
    others = max(0, sum(codes.values()) - sum(grpc.values()))
    return min(errors, others) + blaming


def find_success(requests: int, failures: int) -> float | None:
    """Return the share of requests that did not fail; None without requests."""
    return None if requests <= 0 else max(0.0, 1 - failures / requests)


def _sum_by(found: Mapping[Labels, int], index: int) -> dict[str, int]:
    """Sum counts by one of their labels, without those that are 0."""
    sums: Counter[str] = Counter()
    for labels, number in sorted(found.items()):
        if number:
            sums[labels[index]] += number
    return dict(sums)


def _divide(number: int, seconds: float) -> float:
    return number / seconds if seconds > 0 else 0.0
