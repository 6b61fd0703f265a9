"""Services with their branches, servers and callers."""

from typing import Any

import msgspec
import pytest

from maesh_core.controller.traffic import report as module
from maesh_core.controller.traffic import wanted_metrics as metrics
from maesh_core.controller.traffic.report import DescribedService, ReportBuilder, build_scope, find_weights, list_ports
from maesh_core.controller.traffic.sums import TrafficSums
from maesh_core.model.keys import ObjectKey
from maesh_core.model.matches import HttpMatch
from maesh_core.model.topology import AnswerNode, BranchNode, OrderedMatch, PortNode, RuleTable, ServerNode, ServiceNode

from .measured import (
    DB,
    SERVICES,
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

SPLIT = build_service("web", 80, branches=(build_split(("v1", 9), ("v2", 1)),))
RULE = ("service", "rule")
V1, V2 = "shop/v1:80", "shop/v2:80"


def test_every_service_port_is_reported_with_its_errors_and_notices() -> None:
    node = ServiceNode(
        key=ObjectKey("shop", "web"), traffic_type=None, ports=(PortNode(number=80), PortNode(number=81))
    )
    found = measure(services=[DescribedService(node, ("an error",), ("a notice",))])
    assert (found(WEB).errors, found(WEB).notices, found(WEB).traffic_type) == (("an error",), ("a notice",), "")
    assert (found("shop/web:81").port, found("shop/web:81").name) == ("81", "web")


@pytest.mark.parametrize(("traffic_type", "protocol"), [("http", "TCP"), ("udp", "UDP")])
def test_a_number_that_two_protocols_have_is_one_port(traffic_type: str, protocol: str) -> None:
    ports = tuple(PortNode(number=53, protocol=each) for each in ("SCTP", "TCP", "UDP"))
    node = ServiceNode(key=ObjectKey("shop", "dns"), traffic_type=traffic_type, ports=ports)
    assert [each.protocol for each in list_ports(node)] == [protocol]


@pytest.mark.parametrize("spelling", [f"{WEB}/split/canary/", "shop/"])
def test_a_split_shows_weights_and_measured_requests_by_destination(spelling: str) -> None:
    suffix = ":80" if spelling == "shop/" else ""
    samples = {
        (WEB, f"{spelling}v1{suffix}", "2xx"): 80.0,
        (WEB, f"{spelling}v2{suffix}", "2xx"): 10.0,
        (WEB, f"{spelling}v2{suffix}", "5xx"): 10.0,
        (WEB, "shop/other:80", "2xx"): 99.0,
    }
    failures = {(WEB, f"{spelling}v2{suffix}"): 12.0, (WEB, f"{spelling}v1{suffix}"): 0.0}
    traffic = since_start(
        count(metrics.BRANCHES, samples, "service", "destination", "code"),
        count(metrics.BRANCH_FAILURES, failures, "service", "destination"),
    )
    own, one, other = measure(traffic, services=[SPLIT])(WEB).branches
    assert [(each.destination, each.weight) for each in (own, one, other)] == [(WEB, 0.0), (V1, 0.9), (V2, 0.1)]
    assert [each.total.requests for each in (own, one, other)] == [0, 80, 20]
    assert (one.last.success, other.last.success, other.last.codes) == (1.0, 0.4, {"2xx": 10, "5xx": 10})


def build_ruled(*rules: tuple[str, BranchNode], consumers: tuple[str, ...] = ()) -> PortNode:
    """Build a port with rules, each with the prefix that it matches, which may be empty."""
    table = RuleTable(
        no_match=AnswerNode(404, "none"),
        rules=tuple(rule for _, rule in rules),
        order=tuple(OrderedMatch(match=HttpMatch(path_prefix=each), rule=at) for at, (each, _) in enumerate(rules)),
    )
    if consumers:
        return PortNode(number=80, consumers=dict.fromkeys(consumers, table))
    return PortNode(number=80, rules=table)


def test_weights_of_rules_are_those_of_the_rule_that_every_request_matches() -> None:
    beta, rest = build_split(("v2", 1)), build_split(("v1", 3), ("v2", 1))
    assert find_weights(WEB, build_ruled(("/beta", beta))) == {V2: None}
    assert find_weights(WEB, build_ruled(("/beta", beta), ("", rest))) == {V2: 0.25, V1: 0.75}
    assert find_weights(WEB, build_ruled(("/beta", beta), consumers=("test",))) == {V2: None, WEB: 1.0}


def test_requests_of_a_rule_are_counted_for_the_backend_that_rules_share() -> None:
    port = build_ruled(("", msgspec.structs.replace(build_split(("v1", 9), ("v2", 1)), name="r")))
    service = DescribedService(ServiceNode(key=ObjectKey("shop", "web"), traffic_type="http", ports=(port,)))
    samples = {(WEB, f"{WEB}/backend/{V1}", "2xx"): 80.0, (WEB, f"{WEB}/rule/r", "5xx"): 7.0}
    traffic = since_start(count(metrics.BRANCHES, samples, "service", "destination", "code"))
    one, other = measure(traffic, services=[service])(WEB).branches
    assert [(each.destination, each.weight, each.total.requests) for each in (one, other)] == [
        (V1, 0.9, 80),
        (V2, 0.1, 0),
    ]


@pytest.mark.parametrize(("consumers", "prefix"), [((), "rule"), (("test",), "consumer/test")])
def test_each_rule_has_its_requests_and_percentiles_and_unknown_ones_do_not_count(
    consumers: tuple[str, ...], prefix: str
) -> None:
    rules = [
        (path, msgspec.structs.replace(build_split(("v1", 1)), name=name)) for path, name in (("/b", "b"), ("", "a"))
    ]
    port = build_ruled(*rules, consumers=consumers)
    service = DescribedService(ServiceNode(key=ObjectKey("shop", "web"), traffic_type="http", ports=(port,)))
    known, unknown = f"{WEB}/{prefix}/a", f"{WEB}/{prefix}/c"
    traffic = since_start(
        count(
            metrics.RULES,
            {(WEB, known, "2xx"): 8.0, (WEB, known, "5xx"): 2.0, (WEB, unknown, "2xx"): 9.0},
            *RULE,
            "code",
        ),
        count(metrics.RULE_FAILURES, {(WEB, known): 2.0, (WEB, unknown): 9.0}, *RULE),
        count(metrics.RULE_DURATIONS, {(WEB, known): observe(*[0.2] * 10), (WEB, unknown): observe(9.0)}, *RULE),
    )
    other, found = measure(traffic, services=[service])(WEB).rules
    assert (other.rule, found.rule) == (f"{prefix}/b", f"{prefix}/a")
    assert (other.total.requests, other.total.total.p50) == (0, None)
    assert (found.last.requests, found.last.success, found.last.codes) == (10, 0.8, {"2xx": 8, "5xx": 2})
    assert found.total.total.p50 == pytest.approx(0.2)


def test_weights_are_shares_of_the_requests_that_no_condition_selects() -> None:
    conditional = build_split(("v2", 1), matches=(HttpMatch(paths=("/new",)),))
    both = build_split(("v1", 3), ("v2", 1))
    assert find_weights(WEB, PortNode(number=80)) == {}
    assert find_weights(WEB, PortNode(number=80, branches=(conditional,))) == {WEB: 1.0, V2: None}
    assert find_weights(WEB, PortNode(number=80, branches=(conditional, both))) == {WEB: 0.0, V1: 0.75, V2: 0.25}
    only = PortNode(number=80, branches=(conditional, build_split(("v1", 1))))
    assert find_weights(WEB, only) == {WEB: 0.0, V2: None, V1: 1.0}
    assert find_weights(WEB, PortNode(number=80, branches=(build_split(("v1", 0)),))) == {WEB: 0.0, V1: 0.0}
    assert find_weights(WEB, PortNode(number=80, branches=(build_split(("web", 1)),))) == {WEB: 1.0}


def test_servers_have_their_pod_node_and_attempts() -> None:
    servers = (
        ServerNode(address="10.0.0.1", port=80, pod=ObjectKey("shop", "web-0")),
        ServerNode(address="fd00::1", port=80),
    )
    samples = {
        ("10.0.0.1:80", "response"): 6.0,
        ("10.0.0.1:80", "error"): 1.0,
        ("10.0.0.1:80", "failure"): 3.0,
        ("fd00::1:80", "response"): 1.0,
        ("10.9.9.9:80", "response"): 9.0,
    }
    web = measure(
        since_start(
            count(metrics.ATTEMPTS, samples, "server", "outcome"),
            count(metrics.FAILED_RESPONSES, {("10.0.0.1:80",): 2.0}, "server"),
        ),
        services=[build_service("web", 80, *servers)],
        snapshot=build_snapshot(build_pod("web-0", "10.0.0.1", node_name="node-1")),
    )(WEB)
    one, other = web.servers
    assert (one.server, one.pod, one.node) == ("10.0.0.1:80", "shop/web-0", "node-1")
    assert one.last.requests == 10
    assert one.last.success == pytest.approx(0.4)
    assert (one.last.codes, one.last.reasons) == ({"5xx": 1}, {"no response": 3, "response failed": 2})
    assert (other.server, other.pod, other.node, other.total.requests) == ("[fd00::1]:80", "", "", 1)


def test_callers_are_workloads_with_the_sum_of_their_pods() -> None:
    owner = ("StatefulSet", "shopper")
    snapshot = build_snapshot(*(build_pod(f"s-{n}", f"10.0.0.{n}", owner=owner) for n in (1, 2)))
    edges = {("10.0.0.1", WEB): 3.0, ("10.0.0.2", WEB): 4.0, ("10.0.0.9", WEB): 8.0, ("other", WEB): 1.0}
    failures = {("10.0.0.2", WEB): 7.0}
    web = measure(
        since_start(
            count(metrics.EDGES, edges, "client", "service"),
            count(metrics.EDGE_FAILURES, failures, "client", "service"),
            count(metrics.EDGE_DENIALS, {("10.0.0.1", WEB): 2.0, ("10.0.0.2", WEB): 3.0}, "client", "service"),
        ),
        snapshot=snapshot,
    )(WEB)
    first, second, third = web.callers
    assert (first.caller, first.account, first.addresses) == ("10.0.0.9", "", ("10.0.0.9",))
    assert (second.caller, second.account) == ("StatefulSet/shopper@shop", "default@shop")
    assert (second.pods, second.addresses) == (("shop/s-1", "shop/s-2"), ("10.0.0.1", "10.0.0.2"))
    assert (second.total.requests, second.total.success, second.total.denied) == (7, 0.0, 5)
    assert (third.caller, third.addresses, third.service) == ("other", (), WEB)


def test_callers_of_tcp_have_connections() -> None:
    edges = count(metrics.EDGE_CONNECTIONS, {("10.0.0.1", DB): 60.0}, "client", "service")
    (edge,) = measure(since_start(edges))(DB).callers
    assert (edge.total.connections, edge.total.requests, edge.total.rate) == (60, 0, 2.0)


def test_callers_above_the_limit_are_reported_as_other(monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "CALLERS_LIMIT", 2)
    edges = {("other", WEB): 50.0, **{(f"10.0.0.{number}", WEB): float(number) for number in range(1, 6)}}
    web = measure(since_start(count(metrics.EDGES, edges, "client", "service")))(WEB)
    assert {each.caller: each.total.requests for each in web.callers} == {"10.0.0.5": 5, "other": 60}


def test_open_breakers_are_counted() -> None:
    breakers = since_start(count(metrics.BREAKERS, {(WEB,): 1.0}))
    assert measure(breakers, breakers)(WEB).open_breakers == 2


def test_requests_that_were_denied_before_a_destination_was_picked_are_not_left_out() -> None:
    service = build_service("web", 80, branches=(build_split(("v1", 1)),))
    scope = work_at_once(build_scope([service]))
    denied = {(WEB, f"{WEB}/split/canary", "4xx"): 5.0, (WEB, f"{WEB}/split/other", "4xx"): 1.0}
    sums = TrafficSums(scope)
    left_out = work_at_once(
        sums.add(since_start(count("maesh_branch_requests", denied, "service", "destination", "code")))
    )
    assert left_out == 1


def test_the_scope_has_every_spelling_of_a_server() -> None:
    scope = work_at_once(build_scope([build_service("web", 80, ServerNode(address="::1", port=80))]))
    assert scope.servers == {"[::1]:80": "[::1]:80", "::1:80": "[::1]:80"}
    assert scope.services == {WEB}


def test_the_work_on_many_callers_of_one_service_pauses(monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "STEP", 100)
    edges = {(f"10.0.{number // 250}.{number % 250}", WEB): 1.0 for number in range(1000)}
    sums = TrafficSums(work_at_once(build_scope(SERVICES)))
    work_at_once(sums.add(since_start(count(metrics.EDGES, edges, "client", "service"))))
    builder = ReportBuilder(sums, build_snapshot())
    assert sum(1 for _ in builder.build_services(SERVICES)) >= 2 * 1000 // 100


def test_the_work_on_the_names_of_many_services_pauses() -> None:
    services = [build_service(f"s{number}", 80) for number in range(1000)]
    assert sum(1 for _ in build_scope(services)) >= 1000 * module.PORT_EFFORT // module.STEP
