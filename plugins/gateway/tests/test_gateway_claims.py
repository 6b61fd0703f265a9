"""Which kind of routes a port uses, and which traffic type that gives it."""

import pytest
from maesh_gateway.attaching import claims
from maesh_gateway.controller import RouteBuilder

from maesh_core.controller.topology.builder import build_service_node
from maesh_core.controller.topology.rules import TopologyRules
from maesh_core.model.keys import ObjectKey

from .conftest import FILTERS, Cluster, write_route, write_rule, write_service

ROUTE = write_route(rules=[write_rule("web")])
CONSUMER = write_route("theirs", [write_rule("web")], namespace="client")


class TcpMesh(Cluster):
    """A mesh whose services are TCP unless something else decides."""

    def __init__(self, *objects):
        super().__init__(*objects)
        self.rules = TopologyRules(filters=FILTERS, default_mode="tcp")


def test_a_route_makes_http_of_a_port_for_which_nothing_else_decides():
    found = TcpMesh(write_service("web"), ROUTE)
    assert found.build().traffic_types == {(80, "TCP"): "http"}
    assert found.find_attachment().reason == ""
    assert found.find_rule().backends[0].answer is None
    view = found.snapshot.view()
    builders = [RouteBuilder(found.settings)]
    node = build_service_node(view, ObjectKey("shop", "web"), rules=found.rules, builders=builders)
    assert node.ports[0].traffic_type == "http"


@pytest.mark.parametrize(
    "service",
    [
        write_service("web", annotations={"maesh.containo.us/traffic-type": "tcp"}),
        write_service("web", annotations={"maesh.containo.us/80.traffic-type": "tcp"}),
    ],
)
def test_an_annotation_decides_before_a_route(service):
    found = TcpMesh(service, ROUTE)
    assert (found.build().rules, found.build().traffic_types) == ({}, {})
    assert found.find_attachment().message == "port 80 of Service web has the traffic type tcp, not http"


def test_a_consumer_route_does_not_change_the_traffic_type_for_others():
    found = TcpMesh(write_service("web"), CONSUMER)
    assert (found.build().rules, found.build().traffic_types) == ({}, {})
    attachment = found.find_attachment("theirs")
    assert (attachment.reason, attachment.message) == (
        "NoMatchingParent",
        "port 80 of Service web has the traffic type tcp, not http",
    )


def test_a_consumer_route_is_used_where_a_producer_route_has_decided_the_traffic_type():
    found = TcpMesh(write_service("web"), CONSUMER, ROUTE)
    assert list(found.build().rules[80, "TCP"].consumers) == ["client"]


def test_a_service_without_a_valid_traffic_type_takes_no_route(cluster):
    web = write_service("web", annotations={"maesh.containo.us/traffic-type": "No!"})
    assert cluster(web, ROUTE).build().rules == {}


def test_at_the_limit_of_a_port_the_youngest_routes_are_left_out(cluster, monkeypatch):
    monkeypatch.setattr(claims, "RULES_LIMIT", 3)
    rules = [write_rule("web"), write_rule("web")]
    routes = [
        write_route("old", rules, created="2026-01-01T00:00:00Z"),
        write_route("new", rules, created="2026-01-03T00:00:00Z"),
        write_route("one", rules[:1], created="2026-01-04T00:00:00Z"),
    ]
    found = cluster(write_service("web"), routes)
    assert [rule.name for rule in found.build_table().rules] == [
        "httproute/shop/old/0",
        "httproute/shop/old/1",
        "httproute/shop/one/0",
    ]
    assert [found.find_attachment(name).reason for name in ("old", "new", "one")] == ["", "UnsupportedValue", ""]
    assert "would have more than" in found.find_attachment("new").message


def test_the_routes_of_one_namespace_use_up_no_limit_of_another(cluster, monkeypatch):
    monkeypatch.setattr(claims, "MATCHES_LIMIT", 1)
    found = cluster(write_service("web"), ROUTE, CONSUMER)
    assert [found.find_attachment(name).reason for name in ("web", "theirs")] == ["", ""]


def test_regular_expressions_have_a_limit_of_their_own(cluster, monkeypatch):
    monkeypatch.setattr(claims, "PATTERNS_LIMIT", 2)
    header = {"name": "a", "type": "RegularExpression", "value": "x.*"}
    matches = [{"path": {"type": "RegularExpression", "value": "/a.*"}, "headers": [header]}]
    routes = [write_route(name, [write_rule("web", matches=matches)]) for name in ("a", "b")]
    found = cluster(write_service("web"), routes, write_route("c", [write_rule("web")]))
    assert [found.find_attachment(name).reason for name in "abc"] == ["", "UnsupportedValue", ""]


def test_a_large_regular_expression_counts_as_several(cluster, monkeypatch):
    monkeypatch.setattr(claims, "PATTERNS_LIMIT", 3)
    values = {"a": "/[a-z]{300}", "b": "/[a-z]{20}"}
    routes = [
        write_route(name, [write_rule("web", matches=[{"path": {"type": "RegularExpression", "value": value}}])])
        for name, value in values.items()
    ]
    found = cluster(write_service("web"), routes)
    assert [found.find_attachment(name).reason for name in "ab"] == ["UnsupportedValue", ""]


def test_the_texts_of_rules_have_a_limit_because_each_port_of_each_parent_has_a_copy(cluster):
    headers = [{"name": f"x-{number}", "value": "x" * 4096} for number in range(16)]
    large = [write_rule("web", matches=[{"headers": headers}])]
    routes = [write_route(name, large, namespace="client") for name in "abcd"]
    found = cluster(write_service("web"), routes, write_route("e", [write_rule("web")], namespace="client"))
    assert [found.find_attachment(name).reason for name in "abcde"] == ["", "", "", "UnsupportedValue", ""]
    assert "256 KiB" in found.find_attachment("d").message


def test_a_half_of_a_character_does_not_stop_other_routes(cluster):
    matches = [{"headers": [{"name": "a", "value": "\ud800"}]}]
    found = cluster(write_service("web"), write_route("a", [write_rule("web", matches=matches)]), ROUTE)
    assert found.find_attachment("web").reason == ""
