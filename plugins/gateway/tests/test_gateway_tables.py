"""Routes become rules of ports: parents, producers and consumers, several routes and several kinds."""

import pytest
from maesh_gateway.routes import GrpcRoute, HttpRoute

from maesh_core.model.keys import ObjectKey
from maesh_core.plugin import HttpMatch

from .conftest import write_parent, write_path, write_route, write_rule, write_service

WEB = write_service("web", ports=((80, "http"), (8080, "alt"), (7070, "grpc")))
V1, V2 = write_service("v1", "10.0.1.1"), write_service("v2", "10.0.2.1")


def test_a_service_without_routes_has_no_rules(cluster):
    assert cluster(WEB, write_route(parents=[write_parent("other")])).build() is None


def test_a_route_without_a_port_is_attached_to_all_ports_of_its_service(cluster):
    found = cluster(WEB, V1, write_route(rules=[write_rule("v1")])).build()
    assert list(found.rules) == [(80, "TCP"), (7070, "TCP"), (8080, "TCP")]
    rule = found.rules[80, "TCP"].producer.rules[0]
    assert rule.name == "httproute/shop/web/0"
    assert rule.origin == (HttpRoute, ObjectKey("shop", "web"))
    shown = [(each.service, each.weight, each.port.number) for each in rule.backends]
    assert shown == [(ObjectKey("shop", "v1"), 1, 80)]
    assert rule.keeps_shares
    assert found.rules[80, "TCP"].producer.no_match.status == 404


@pytest.mark.parametrize(
    ("fields", "ports"),
    [
        ({"port": 80}, [80]),
        ({"sectionName": "alt"}, [8080]),
        ({"port": 8080, "sectionName": "alt"}, [8080]),
    ],
)
def test_a_port_and_a_section_limit_the_parent_to_what_both_name(cluster, fields, ports):
    found = cluster(WEB, V1, write_route(rules=[write_rule("v1")], parents=[write_parent(**fields)])).build()
    assert [number for number, _ in found.rules] == ports


@pytest.mark.parametrize("fields", [{"port": 81}, {"sectionName": "none"}, {"port": 80, "sectionName": "alt"}])
def test_a_parent_of_which_no_port_fits_has_no_effect(cluster, fields):
    found = cluster(WEB, V1, write_route(rules=[write_rule("v1")], parents=[write_parent(**fields)]))
    assert found.build().rules == {}
    assert found.find_attachment().reason == "NoMatchingParent"


def test_each_parent_is_judged_by_itself(cluster):
    parents = [write_parent(port=81), {"name": "web", "kind": "Gateway"}, write_parent(port=80)]
    found = cluster(WEB, V1, write_route(rules=[write_rule("v1")], parents=parents))
    assert [number for number, _ in found.build().rules] == [80]
    assert found.find_attachment(parent=0).reason == "NoMatchingParent"
    assert found.find_attachment(parent=2).reason == ""
    assert [each.parent for each in found.build().value.routes["HTTPRoute shop/web"]] == [0, 2]


@pytest.mark.parametrize(
    "parent",
    [
        {"name": "web"},
        {"name": "web", "kind": "Service"},
        {"name": "web", "group": "", "kind": "Gateway"},
        {"name": "web", "group": "example.org", "kind": "Service"},
        {"name": "web", "group": "", "kind": "ListenerSet"},
    ],
)
def test_a_parent_is_ours_only_by_kind_and_group_together(cluster, parent):
    assert cluster(WEB, write_route(rules=[write_rule("web")], parents=[parent])).build() is None


def test_the_group_core_stands_for_the_empty_one(cluster):
    parent = {"name": "web", "group": "core", "kind": "Service"}
    assert cluster(WEB, write_route(rules=[write_rule("web")], parents=[parent])).build().rules


def test_a_port_with_another_traffic_type_takes_no_http_route(cluster):
    web = write_service("web", annotations={"maesh.containo.us/traffic-type": "tcp"})
    found = cluster(web, write_route(rules=[write_rule("web")]))
    assert found.build().rules == {}
    assert found.find_attachment().message == "port 80 of Service web has the traffic type tcp, not http"


# --- producers and consumers


def test_a_route_of_another_namespace_is_for_the_clients_of_that_namespace_only(cluster):
    routes = [
        write_route("own", [write_rule("v1")]),
        write_route("theirs", [write_rule({"name": "v2", "namespace": "shop", "port": 80})], namespace="client"),
    ]
    found = cluster(WEB, V1, V2, routes)
    rules = found.build().rules[80, "TCP"]
    assert [rule.name for rule in rules.producer.rules] == ["httproute/shop/own/0"]
    assert [rule.name for rule in rules.consumers["client"].rules] == ["httproute/client/theirs/0"]


def test_without_a_producer_route_other_clients_have_no_rules(cluster):
    found = cluster(WEB, write_route(rules=[write_rule("web")], namespace="client"))
    assert found.build().rules[80, "TCP"].producer is None


def test_what_is_wrong_with_a_consumer_route_is_not_shown_on_the_service(cluster):
    bad = [write_rule("web", filters=[{"type": "Nonsense"}])]
    found = cluster(WEB, write_route(rules=bad, namespace="client"), write_route("own", [write_rule("web")])).build()
    assert found.notices == ()
    assert found.rules[80, "TCP"].producer.rules[0].answer is None
    assert found.rules[80, "TCP"].consumers["client"].rules[0].answer.status == 500


def test_a_foreign_grpc_route_does_not_displace_the_producers_http_route(cluster):
    routes = [
        write_route("own", [write_rule("v1")]),
        write_route("theirs", [write_rule("web")], namespace="client", kind="GRPCRoute"),
    ]
    rules = cluster(WEB, V1, routes).build().rules[80, "TCP"]
    assert rules.producer.rules[0].origin[0] is HttpRoute
    assert rules.consumers["client"].rules[0].origin[0] is GrpcRoute


# --- several routes, several kinds


def test_routes_of_one_kind_merge(cluster):
    routes = [
        write_route("a", [write_rule("v1", matches=[write_path("/a")])]),
        write_route("b", [write_rule("v2", matches=[write_path("/b/longer")])]),
    ]
    assert cluster(WEB, V1, V2, routes).list_rules() == [("b", "0"), ("a", "0")]


def test_age_decides_before_the_name_and_an_unknown_age_is_the_youngest(cluster):
    routes = [
        write_route("a", [write_rule("v1")]),
        write_route("b", [write_rule("v1")], created="2026-02-01T00:00:00Z"),
        write_route("c", [write_rule("v1")], created="2025-02-01T00:00:00Z"),
        write_route("d", [write_rule("v1")]),
    ]
    assert cluster(WEB, V1, routes).list_rules() == [("c", "0"), ("b", "0"), ("a", "0"), ("d", "0")]


def test_a_rule_takes_part_with_each_of_its_matches(cluster):
    rules = [
        write_rule("v1", matches=[write_path("/"), {"headers": [{"name": "version", "value": "one"}]}]),
        write_rule("v2", matches=[write_path("/v2"), {"headers": [{"name": "version", "value": "two"}]}]),
    ]
    assert [place for _, place in cluster(WEB, V1, V2, write_route(rules=rules)).list_order()] == [
        ("web", "1"),
        ("web", "0"),
        ("web", "1"),
        ("web", "0"),
    ]


def test_of_several_kinds_the_grpc_route_is_used_and_the_other_conflicts(cluster):
    routes = [
        write_route("web", [write_rule("v1")]),
        write_route("calls", [write_rule("web")], kind="GRPCRoute", parents=[write_parent(port=80)]),
    ]
    found = cluster(WEB, V1, routes)
    rules = found.build().rules
    assert rules[80, "TCP"].producer.rules[0].origin[0] is GrpcRoute
    assert rules[80, "TCP"].producer.no_match.grpc_status == 12
    assert rules[8080, "TCP"].producer.rules[0].origin[0] is HttpRoute
    attachment = found.find_attachment()
    assert (attachment.reason, attachment.ports) == ("", (8080, 7070))
    notices = {each.type: each.notices for each in found.build().objects}
    assert notices == {HttpRoute: ("it has no effect on port 80 of web, which uses a GRPCRoute",), GrpcRoute: ()}


def test_a_route_that_loses_all_its_ports_is_conflicted(cluster):
    routes = [
        write_route("web", [write_rule("v1")], parents=[write_parent(port=80)]),
        write_route("calls", [write_rule("web")], kind="GRPCRoute"),
    ]
    found = cluster(WEB, V1, routes)
    attachment = found.find_attachment()
    assert (attachment.reason, attachment.ports) == ("Conflicted", ())
    assert attachment.message == "a GRPCRoute is attached to the same port of web"
    assert "HTTPRoute web: a GRPCRoute is attached to the same port of web" in found.build().notices


def test_an_unusable_route_of_a_higher_kind_displaces_nothing(cluster):
    bad = write_route("calls", [write_rule("web", matches=[{"method": {}}])], kind="GRPCRoute")
    found = cluster(WEB, V1, write_route(rules=[write_rule("v1")]), bad)
    assert found.build_table().rules[0].origin[0] is HttpRoute
    assert found.find_attachment("calls", kind="GRPCRoute").reason == "UnsupportedValue"


# --- errors


def test_a_port_whose_only_route_is_unusable_is_closed(cluster):
    found = cluster(WEB, write_route(rules=[write_rule("web", matches=[write_path("no-slash")])]))
    assert found.build_table().rules == ()
    assert found.build_table().order == ()
    attachment = found.find_attachment()
    assert attachment.reason == "UnsupportedValue"
    assert attachment.message == "rules[0].matches[0].path.value: 'no-slash' does not start with /"


def test_a_route_with_a_fault_closes_the_port_that_it_claims(cluster):
    route = write_route(rules=[write_rule("web")], parentRef={"name": "web"})
    found = cluster(WEB, route)
    assert found.build_table().rules == ()
    assert found.find_attachment().reason == "UnsupportedValue"
    assert found.build().objects[0].errors == ()  # the fault is reported where the route is read


def test_a_bad_rule_leaves_the_others_alone(cluster):
    rules = [
        write_rule("v1", matches=[write_path("/a", "Nonsense")]),
        write_rule("v1", matches=[write_path("/b")], filters=[{"type": "Nonsense"}]),
        write_rule("v1", matches=[write_path("/c")]),
    ]
    found = cluster(WEB, V1, write_route(rules=rules))
    table = found.build_table()
    assert [(rule.name[-1], rule.answer and rule.answer.status) for rule in table.rules] == [("1", 500), ("2", None)]
    attachment = found.find_attachment()
    assert attachment.reason == ""
    assert [(each.rule, each.reason, each.is_dropped) for each in attachment.rules] == [
        (0, "UnsupportedValue", True),
        (1, "UnsupportedValue", False),
    ]


def test_a_route_all_of_whose_rules_answer_errors_is_not_accepted(cluster):
    rewrite = {"type": "URLRewrite", "urlRewrite": {"hostname": "a.example"}}
    redirect = {"type": "RequestRedirect", "requestRedirect": {"hostname": "a.example"}}
    found = cluster(WEB, write_route(rules=[{"filters": [rewrite, redirect]}]))
    assert found.find_attachment().reason == "IncompatibleFilters"
    assert found.build_table().rules[0].answer.status == 500


def test_a_route_without_rules_answers_every_request_with_an_error(cluster):
    found = cluster(WEB, write_route())
    assert found.list_order() == [(HttpMatch(), ("web", "0"))]
    assert found.build_table().rules[0].answer.status == 500


def test_the_objects_of_a_service_are_its_routes_with_their_errors(cluster):
    found = cluster(WEB, write_route(rules=[write_rule("missing")])).build()
    assert [(each.type, each.key, each.errors) for each in found.objects] == [
        (HttpRoute, ObjectKey("shop", "web"), ("rules[0]: backend missing: there is no such Service",))
    ]
    assert found.notices == ("HTTPRoute web: rules[0]: backend missing: there is no such Service",)
