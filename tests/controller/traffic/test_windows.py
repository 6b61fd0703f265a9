"""What counts as failed, limited and denied."""

import pytest

from maesh_core.controller.traffic import wanted_metrics as metrics
from maesh_core.controller.traffic.report import ReportBuilder, build_scope
from maesh_core.controller.traffic.sums import TrafficSums
from maesh_core.controller.traffic.windows import build_tunnel_counts, find_success
from maesh_core.model.matches import HttpMatch
from maesh_core.model.metrics import MetricFamily
from maesh_core.model.topology import AnswerNode, BranchNode, OrderedMatch, RuleTable, ServerNode
from maesh_core.model.traffic import TunnelCounts, TunnelTraffic, Window

from .measured import (
    DB,
    WEB,
    build_pod,
    build_service,
    build_snapshot,
    build_split,
    count,
    measure,
    observe,
    since_start,
    work_at_once,
)

WEB_SERVER = "10.0.0.1:8080"


def test_success_is_a_share_and_unknown_without_requests() -> None:
    assert find_success(0, 0) is None
    assert find_success(4, 1) == 0.75
    assert find_success(4, 9) == 0.0


def test_a_window_of_http_has_everything() -> None:
    window = measure(
        since_start(
            count(metrics.REQUESTS, {(WEB, "2xx"): 6.0, (WEB, "4xx"): 3.0, (WEB, "5xx"): 1.0}, "service", "code"),
            count(metrics.CALLS, {(WEB, "0"): 1.0}, "service", "grpc_status"),
            count(metrics.FAILURES, {(WEB,): 3.0}),
            count(
                metrics.ANSWERS,
                {(WEB, "429", "limited"): 2.0, (WEB, "403", "access denied"): 1.0, (WEB, "503", "no server"): 1.0},
                "service",
                "code",
                "reason",
            ),
            count(metrics.CUTS, {(WEB, "the upstream was lost"): 2.0, (WEB, "limited"): 1.0}, "service", "reason"),
            count(metrics.RETRIES, {(WEB,): 4.0}),
            count(metrics.RECEIVED_BYTES, {(WEB,): 100.0}),
            count(metrics.SENT_BYTES, {(WEB,): 200.0}),
            count(metrics.DURATIONS, {(WEB,): observe(*[0.2] * 10)}),
            count(metrics.UPSTREAM_DURATIONS, {(WEB,): observe(*[0.004] * 10)}),
            count(metrics.DENIED, {(WEB, "client"): 1.0}, "service", "reason"),
        )
    )(WEB).last
    assert (window.requests, window.success, window.rate) == (10, 0.7, 10 / 30)
    assert (window.limited, window.denied, window.retries) == (2, 1, 4)
    assert window.reasons == {"access denied": 1, "limited": 3, "no server": 1, "the upstream was lost": 2}
    assert window.grpc == {"0": 1}
    assert (window.received_bytes, window.sent_bytes) == (100, 200)
    assert window.total.p50 == pytest.approx(0.2)
    assert window.upstream.p99 == pytest.approx(0.0025 + 0.0025 * 0.99)


def test_a_window_of_a_server_has_codes_bytes_and_durations_until_its_responses() -> None:
    (server,) = measure(
        since_start(
            count(
                metrics.ATTEMPTS,
                {(WEB_SERVER, "response"): 8.0, (WEB_SERVER, "error"): 1.0, (WEB_SERVER, "failure"): 1.0},
                "server",
                "outcome",
            ),
            count(metrics.SERVER_RESPONSES, {(WEB_SERVER, "2xx"): 8.0, (WEB_SERVER, "5xx"): 1.0}, "server", "code"),
            count(metrics.SERVER_DURATIONS, {(WEB_SERVER,): observe(*[0.004] * 9)}, "server"),
            count(metrics.SERVER_RECEIVED_BYTES, {(WEB_SERVER,): 5.0}, "server"),
            count(metrics.SERVER_SENT_BYTES, {(WEB_SERVER,): 7.0}, "server"),
        )
    )(WEB).servers
    window = server.last
    assert (window.requests, window.success, window.codes) == (10, 0.8, {"2xx": 8, "5xx": 1})
    assert (window.received_bytes, window.sent_bytes, window.total.p50) == (5, 7, None)
    assert window.upstream.p99 == pytest.approx(0.0025 + 0.0025 * 0.99)


def test_a_server_of_a_proxy_that_counts_no_codes_has_its_errors() -> None:
    outcomes = count(metrics.ATTEMPTS, {(WEB_SERVER, "response"): 3.0, (WEB_SERVER, "error"): 2.0}, "server", "outcome")
    assert measure(since_start(outcomes))(WEB).servers[0].last.codes == {"5xx": 2}


def test_branches_have_percentiles_of_their_own_and_parts_of_one_destination_are_merged() -> None:
    service = build_service("web", 80, branches=(build_split(("v1", 1), ("v2", 1)),))
    slow, fast = observe(*[0.2] * 4), observe(*[0.0002] * 4)
    family = count(
        metrics.BRANCH_DURATIONS,
        {(WEB, f"{WEB}/split/canary/v1"): slow, (WEB, f"{WEB}/split/canary/v2"): fast, (WEB, "shop/v2:80"): fast},
        "service",
        "destination",
    )
    branches = measure(since_start(family), services=[service])(WEB).branches
    found = {branch.destination: branch.last.total.p50 for branch in branches}
    assert found == {WEB: None, "shop/v1:80": pytest.approx(0.2), "shop/v2:80": pytest.approx(0.00025)}


def test_a_caller_has_the_durations_of_all_its_addresses() -> None:
    pods = [build_pod(f"api-{n}", f"10.9.0.{n}", owner=("StatefulSet", "api")) for n in (1, 2)]
    clients = {("10.9.0.1", WEB): observe(*[0.0002] * 99), ("10.9.0.2", WEB): observe(0.2)}
    traffic = since_start(
        count(metrics.EDGES, {pair: sum(each.counts) for pair, each in clients.items()}, "client", "service"),
        count(metrics.EDGE_DURATIONS, clients, "client", "service"),
    )
    (caller,) = measure(traffic, snapshot=build_snapshot(*pods))(WEB).callers
    assert caller.last.requests == 100
    assert caller.last.total.p50 < 0.0005
    assert measure(traffic, snapshot=build_snapshot(pods[1]))(WEB).callers[-1].last.total.p50 == pytest.approx(0.2)


def test_a_window_of_tcp_counts_connections_and_denials_of_access_control() -> None:
    window = measure(
        since_start(
            count(metrics.TCP_CONNECTIONS, {(DB,): 15.0}),
            count(metrics.TCP_RECEIVED, {(DB,): 10.0}),
            count(metrics.TCP_SENT, {(DB,): 20.0}),
            count(metrics.TCP_REFUSED, {(DB,): 2.0}),
            count(metrics.DENIED, {(DB, "client"): 3.0}, "service", "reason"),
        )
    )(DB).total
    assert (window.connections, window.rate, window.denied) == (15, 0.5, 3)
    assert (window.requests, window.success) == (0, None)
    assert window.reasons == {"client": 3, "no server accepted it": 2}
    assert (window.received_bytes, window.sent_bytes) == (10, 20)


def test_a_service_without_traffic_has_an_empty_window() -> None:
    assert measure(since_start())(WEB).last == Window(seconds=30.0)


def test_a_window_has_what_was_encrypted_and_why_not() -> None:
    labels = ("service", "path", "reason")

    def build(metric: str) -> MetricFamily:
        return count(
            metric,
            {(WEB, "encrypted", ""): 5.0, (WEB, "clear", "unreachable"): 2.0, (WEB, "clear", "udp"): 1.0},
            *labels,
        )

    window = measure(since_start(build(metrics.PATH_REQUESTS), build(metrics.PATH_BYTES)))(WEB).last
    assert window.paths == window.path_bytes == {"clear": 3, "encrypted": 5}
    assert window.clear_reasons == {"udp": 1, "unreachable": 2}


def test_a_path_that_does_not_exist_does_not_count() -> None:
    found = count(metrics.PATH_REQUESTS, {(WEB, "secret", ""): 5.0}, "service", "path", "reason")
    assert measure(since_start(found))(WEB).last.paths == {}


def test_tunnels_are_summed_by_what_they_became() -> None:
    proxy = since_start(
        count(
            metrics.HANDSHAKES,
            {("outgoing", "full"): 2.0, ("outgoing", "resumed"): 3.0, ("incoming", "full"): 9.0, ("odd", "full"): 1.0},
            "role",
            "kind",
        ),
        count(metrics.TUNNEL_FAILURES, {("outgoing", "timeout"): 1.0, ("incoming", "tls"): 4.0}, "role", "reason"),
    )
    sums = TrafficSums(work_at_once(build_scope(())))
    work_at_once(sums.add(proxy))
    work_at_once(sums.add(proxy))
    expected = TunnelCounts(handshakes={"full": 4, "resumed": 6}, failures={"timeout": 2}, incoming_failures={"tls": 8})
    assert build_tunnel_counts(sums.total) == build_tunnel_counts(sums.last) == expected
    assert ReportBuilder(sums, build_snapshot()).build_tunnels() == TunnelTraffic(last=expected, total=expected)


@pytest.mark.parametrize(
    ("type_", "opened", "failed", "reason"),
    [
        ("tcp", "connections", "failed_connects", "no connection"),
        ("udp", "sessions", "failed_sessions", "the server is unreachable"),
    ],
)
def test_servers_and_branches_of_streams_count_connections_or_sessions(
    type_: str, opened: str, failed: str, reason: str
) -> None:
    server = ServerNode(address="10.0.0.1", port=53)
    service = build_service("web", 80, server, type_=type_, branches=(build_split(("v1", 1), ("v2", 3)),))
    branches = {(WEB, f"{WEB}/split/canary/v1"): 5.0, (WEB, f"{WEB}/split/canary/v2"): 15.0}
    pair = ("service", "destination")
    report = measure(
        since_start(
            count(f"maesh_{type_}_server_{opened}", {("10.0.0.1:53",): 15.0}, "server"),
            count(f"maesh_{type_}_server_{failed}", {("10.0.0.1:53",): 2.0}, "server"),
            count(f"maesh_{type_}_server_received_bytes", {("10.0.0.1:53",): 7.0}, "server"),
            count(f"maesh_{type_}_server_sent_bytes", {("10.0.0.1:53",): 8.0}, "server"),
            count(f"maesh_{type_}_server_aside", {("10.0.0.1:53",): 1.0}, "server"),
            count(f"maesh_{type_}_branch_{opened}", branches, *pair),
            count(f"maesh_{type_}_branch_sent_bytes", {(WEB, f"{WEB}/split/canary/v2"): 9.0}, *pair),
            count(metrics.ATTEMPTS, {("10.0.0.1:53", "response"): 99.0}, "server", "outcome"),
            count(metrics.ASIDE, {("10.0.0.1:53",): 0.0}, "server"),
        ),
        services=[service],
    )(WEB)
    (found,) = report.servers
    assert (found.is_set_aside, found.last) == (
        True,
        Window(seconds=30.0, rate=0.5, connections=15, reasons={reason: 2}, received_bytes=7, sent_bytes=8),
    )
    assert {
        each.destination: (each.weight, each.last.connections, each.last.sent_bytes) for each in report.branches
    } == {
        WEB: (0.0, 0, 0),
        "shop/v1:80": (0.25, 5, 0),
        "shop/v2:80": (0.75, 15, 9),
    }


@pytest.mark.parametrize(
    ("type_", "opened", "failed", "reason"),
    [
        ("tcp", "connections", "failed_connects", "no connection"),
        ("udp", "sessions", "failed_sessions", "the server is unreachable"),
    ],
)
def test_rules_of_streams_count_connections_or_sessions_and_those_without_a_server(
    type_: str, opened: str, failed: str, reason: str
) -> None:
    table = RuleTable(
        no_match=AnswerNode(404, "none"),
        rules=(BranchNode(name="r", backends=()),),
        order=(OrderedMatch(match=HttpMatch(), rule=0),),
    )
    service = build_service("web", 80, type_=type_, rules=table)
    rule, pair = {(WEB, f"{WEB}/rule/r"): 15.0, (WEB, f"{WEB}/rule/gone"): 9.0}, ("service", "rule")
    report = measure(
        since_start(
            count(f"maesh_{type_}_rule_{opened}", rule, *pair),
            count(f"maesh_{type_}_rule_{failed}", {(WEB, f"{WEB}/rule/r"): 2.0}, *pair),
            count(f"maesh_{type_}_rule_refused_{opened}", {(WEB, f"{WEB}/rule/r"): 1.0}, *pair),
            count(f"maesh_{type_}_rule_received_bytes", {(WEB, f"{WEB}/rule/r"): 7.0}, *pair),
            count(metrics.RULES, {(WEB, f"{WEB}/rule/r", "2xx"): 99.0}, *pair, "code"),
        ),
        services=[service],
    )(WEB)
    (found,) = report.rules
    reasons = {reason: 2, "no server accepted it": 1}
    assert found.rule == "rule/r"
    assert found.last == Window(seconds=30.0, rate=0.5, connections=15, reasons=reasons, received_bytes=7)


def test_a_server_of_tcp_and_udp_has_the_counts_of_its_service_s_protocol_only() -> None:
    server = ServerNode(address="10.0.0.1", port=53)
    services = [build_service("db", 5432, server, type_="tcp"), build_service("dns", 53, server, type_="udp")]
    find = measure(
        since_start(
            count("maesh_tcp_server_connections", {("10.0.0.1:53",): 2.0}, "server"),
            count("maesh_udp_server_sessions", {("10.0.0.1:53",): 3.0}, "server"),
            count("maesh_udp_server_aside", {("10.0.0.1:53",): 1.0}, "server"),
        ),
        services=services,
    )
    found = [find(key).servers[0] for key in (DB, "shop/dns:53")]
    assert [(each.total.connections, each.is_set_aside) for each in found] == [(2, False), (3, True)]
