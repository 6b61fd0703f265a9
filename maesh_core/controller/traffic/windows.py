"""Builds the windows of a report: takes counts, and returns what was counted for a service, branch, server or caller.

Which requests have failed is decided by the proxies, which count them (docs/metrics.md). Pure values.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from maesh_core.controller.traffic import wanted_metrics as metrics
from maesh_core.controller.traffic.latency import BUCKETS, build_latency
from maesh_core.controller.traffic.sums import Counts, Labels
from maesh_core.model.traffic import TunnelCounts, Window
from maesh_core.model.transport import CLEAR, ENCRYPTED

LIMITED: Final = "429"
DENIED: Final = "403"
NO_RESPONSE: Final = "no response"
"""The reason of a server's attempts without a response."""
FAILED_LATER: Final = "response failed"
"""The reason of a server's responses that were cut, or that failed by their gRPC status."""
_STREAM_FAILURES: Final = {"tcp": "no connection", "udp": "the server is unreachable"}
"""By traffic type: the reason of connections that a server did not accept, and of sessions that an ICMP error ended."""
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
    paths = _sum_paths(counts, key, metrics.PATH_REQUESTS)
    if not (requests or answered or grpc or paths[0]):
        return Window(seconds=counts.seconds)
    return Window(
        seconds=counts.seconds,
        requests=requests,
        rate=_divide(requests, counts.seconds),
        success=find_success(requests, counts.count(metrics.FAILURES, key)),
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
        paths=paths[0],
        path_bytes=paths[1],
        clear_reasons=paths[2],
    )


def _sum_paths(counts: Counts, key: str, metric: str) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """Sum a metric and the bytes by path, and the metric by the reasons why it was in clear."""
    found = counts.find(metric, key)
    in_clear = {labels: number for labels, number in found.items() if labels[0] == CLEAR}
    return _sum_by(found, 0), _sum_by(counts.find(metrics.PATH_BYTES, key), 0), _sum_by(in_clear, 1)


def _build_stream_window(counts: Counts, key: str) -> Window:
    """Build the window of a TCP or UDP service, whose traffic is connections or sessions."""

    def count(*names: str) -> int:
        return sum(counts.count(name, key) for name in names)

    denials = _sum_by(counts.find(metrics.DENIED, key), 0)
    refused = count(metrics.TCP_REFUSED, metrics.UDP_REFUSED)
    connections = count(metrics.TCP_CONNECTIONS, metrics.UDP_SESSIONS)
    paths, path_bytes, clear_reasons = _sum_paths(counts, key, metrics.PATH_CONNECTIONS)
    return Window(
        seconds=counts.seconds,
        rate=_divide(connections, counts.seconds),
        denied=sum(denials.values()),
        reasons={**denials, **({NO_SERVER: refused} if refused else {})},
        received_bytes=count(metrics.TCP_RECEIVED, metrics.UDP_RECEIVED),
        sent_bytes=count(metrics.TCP_SENT, metrics.UDP_SENT),
        connections=connections,
        paths=paths,
        path_bytes=path_bytes,
        clear_reasons=clear_reasons,
    )


def build_branch_window(counts: Counts, key: str, destination: str, *, stream_type: str = "") -> Window:
    """Build the window of one destination of a service port; `stream_type` is `tcp`, `udp`, or empty for HTTP."""
    if stream_type:
        return _build_part_of_streams(counts, stream_type, metrics.STREAM_BRANCHES[stream_type], key, destination)
    names = (metrics.BRANCHES, metrics.BRANCH_FAILURES, metrics.BRANCH_DURATIONS)
    return _build_part_window(counts, key, destination, names)


def build_rule_window(counts: Counts, key: str, rule: str, *, stream_type: str = "") -> Window:
    """Build the window of one rule of a service port, given by the key of the rule's service.

    `stream_type` is `tcp`, `udp`, or empty for HTTP.
    """
    if stream_type:
        window = _build_part_of_streams(counts, stream_type, metrics.STREAM_RULES[stream_type], key, rule)
        refused = counts.count(metrics.STREAM_REFUSED[stream_type], key, rule)
        reasons = {**window.reasons, NO_SERVER: refused} if refused else window.reasons
        return msgspec.structs.replace(window, reasons=reasons)
    return _build_part_window(counts, key, rule, (metrics.RULES, metrics.RULE_FAILURES, metrics.RULE_DURATIONS))


def _build_part_window(counts: Counts, key: str, part: str, names: tuple[str, str, str]) -> Window:
    """Build the window of a part of a service port's requests, from their counts, failures and durations."""
    requests, failures, durations = names
    found = counts.find(requests, key)
    codes = {code: number for (name, code), number in sorted(found.items()) if name == part and number}
    window = build_plain_window(counts.seconds, sum(codes.values()), counts.count(failures, key, part), codes=codes)
    return msgspec.structs.replace(window, total=build_latency(counts.find_buckets(durations, key, part)))


def build_server_window(counts: Counts, server: str, *, stream_type: str = "") -> Window:
    """Build the window of a server; `stream_type` is `tcp`, `udp`, or empty for HTTP.

    Of HTTP, its attempts are the requests. Those without a response have failed too. Its durations are those until the
    head of a response. Proxies of earlier versions count no responses by code.
    """
    if stream_type:
        return _build_part_of_streams(counts, stream_type, metrics.STREAM_SERVERS[stream_type], server)
    outcomes = _sum_by(counts.find(metrics.ATTEMPTS, server), 0)
    failures, errors = outcomes.get("failure", 0), outcomes.get("error", 0)
    failed_later = counts.count(metrics.FAILED_RESPONSES, server)
    reasons = {NO_RESPONSE: failures, FAILED_LATER: failed_later}
    window = build_plain_window(
        counts.seconds,
        sum(outcomes.values()),
        failures + errors + failed_later,
        codes=_sum_by(counts.find(metrics.SERVER_RESPONSES, server), 0) or ({"5xx": errors} if errors else {}),
        reasons={reason: number for reason, number in reasons.items() if number},
    )
    return msgspec.structs.replace(
        window,
        upstream=build_latency(counts.find_buckets(metrics.SERVER_DURATIONS, server)),
        received_bytes=counts.count(metrics.SERVER_RECEIVED_BYTES, server),
        sent_bytes=counts.count(metrics.SERVER_SENT_BYTES, server),
    )


def _build_part_of_streams(counts: Counts, stream_type: str, names: metrics.StreamMetrics, *labels: str) -> Window:
    """Build the window of a server, branch or rule of TCP or UDP, whose labels these are."""
    failed, connections = counts.count(names.failed, *labels), counts.count(names.opened, *labels)
    reasons = {_STREAM_FAILURES[stream_type]: failed} if failed else {}
    window = build_plain_window(counts.seconds, 0, 0, connections=connections, reasons=reasons)
    return msgspec.structs.replace(
        window,
        received_bytes=counts.count(names.received, *labels),
        sent_bytes=counts.count(names.sent, *labels),
    )


def build_edge_window(counts: Counts, service: str, clients: Iterable[str]) -> Window:
    """Build the window of some clients of a service port."""
    requests = failures = denied = connections = 0
    paths: Counter[str] = Counter()
    buckets = [0] * BUCKETS
    for client in clients:
        requests += counts.count(metrics.EDGES, service, client)
        failures += counts.count(metrics.EDGE_FAILURES, service, client)
        denied += counts.count(metrics.EDGE_DENIALS, service, client)
        connections += counts.count(metrics.EDGE_CONNECTIONS, service, client)
        for path in (CLEAR, ENCRYPTED):
            paths[path] += counts.count(metrics.EDGE_PATHS, service, client, path)
        for index, count in enumerate(counts.find_buckets(metrics.EDGE_DURATIONS, service, client)):
            buckets[index] += count
    window = build_plain_window(counts.seconds, requests, failures, denied=denied, connections=connections)
    return msgspec.structs.replace(window, paths=dict(+paths), total=build_latency(buckets))


def build_tunnel_counts(counts: Counts) -> TunnelCounts:
    """Sum the TLS connections between nodes over all proxies."""
    return TunnelCounts(
        handshakes=_sum_by(counts.find(metrics.HANDSHAKES, "outgoing"), 0),
        failures=_sum_by(counts.find(metrics.TUNNEL_FAILURES, "outgoing"), 0),
        incoming_failures=_sum_by(counts.find(metrics.TUNNEL_FAILURES, "incoming"), 0),
    )


def build_plain_window(
    seconds: float,
    requests: int,
    failures: int,
    *,
    denied: int = 0,
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
        denied=denied,
        codes=codes or {},
        reasons=reasons or {},
        connections=connections,
    )


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
