"""TCPRoutes and UDPRoutes: how they are read, what they decide, and their status."""

import pytest
from maesh_gateway.reading.stream_routes import read_tcp_route
from maesh_gateway.routes import HttpRoute, TcpRoute, UdpRoute

from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import ObjectMeta

from .conftest import Cluster, write_parent, write_route, write_rule, write_service

DB = write_service("web", ports=((80, "http"), (5432, "db")))
UDP = {"protocol": "UDP"}
DNS = write_service("web", ports=((53, "dns", UDP), (80, "http")))
V1 = write_service("v1", "10.0.1.1")
V2 = write_service("v2", "10.0.2.1")


def tcp(rules=None, name="web", **options):
    return write_route(name, [write_rule("v1")] if rules is None else rules, kind="TCPRoute", **options)


def udp(rules, name="web", **options):
    return write_route(name, rules, kind="UDPRoute", **options)


def test_a_route_makes_a_port_carry_its_traffic_type_where_nothing_else_decides():
    found = Cluster(DB, V1, tcp(parents=[write_parent(port=5432)])).build()
    assert found.traffic_types == {(5432, "TCP"): "tcp"}
    assert list(found.rules) == [(5432, "TCP")]
    table = found.rules[5432, "TCP"].producer
    (rule,) = table.rules
    assert rule.name == "tcproute/shop/web/0"
    assert rule.keeps_shares
    assert [(each.service, each.weight) for each in rule.backends] == [(ObjectKey("shop", "v1"), 1)]
    assert len(table.order) == 1


def test_an_annotation_for_http_beats_the_route_which_is_not_accepted():
    web = write_service("web", annotations={"maesh.containo.us/traffic-type": "http"})
    found = Cluster(web, V1, tcp())
    assert found.build().rules == {}
    attachment = found.find_attachment(kind="TCPRoute")
    assert attachment.reason == "NoMatchingParent"
    assert "has the traffic type http, not tcp" in attachment.message


def test_a_udp_route_takes_udp_ports_and_a_tcp_route_those_of_tcp():
    v1 = write_service("v1", "10.0.1.1", ports=((53, "dns", UDP),))
    rule = write_rule({"name": "v1", "port": 53})
    found = Cluster(DNS, v1, udp([rule])).build()
    assert found.traffic_types == {(53, "UDP"): "udp"}
    assert list(found.rules) == [(53, "UDP")]
    assert found.rules[53, "UDP"].producer.rules[0].backends[0].port.number == 53


def test_a_udp_route_conflicts_with_no_route_of_another_kind():
    v1 = write_service("v1", "10.0.1.1", ports=((53, "dns", UDP), (80, "http")))
    objects = (DNS, v1, udp([write_rule({"name": "v1", "port": 53})]), write_route(rules=[write_rule("v1")]))
    found = Cluster(*objects)
    assert found.find_attachment(kind="UDPRoute").reason == ""
    assert found.find_attachment(kind="HTTPRoute").ports == (80,)


def test_an_http_route_on_the_same_port_beats_a_tcp_route():
    found = Cluster(DB, V1, tcp(name="stream"), write_route(rules=[write_rule("v1")], parents=[write_parent(port=80)]))
    assert found.find_attachment("stream", kind="TCPRoute").ports == (5432,)
    assert found.find_attachment().ports == (80,)
    found = Cluster(
        DB,
        V1,
        tcp(name="stream", parents=[write_parent(port=80)]),
        write_route(rules=[write_rule("v1")], parents=[write_parent(port=80)]),
    )
    assert found.find_attachment("stream", kind="TCPRoute").reason == "Conflicted"


def test_of_several_routes_the_oldest_gets_all_and_all_are_accepted():
    young = tcp(name="a", created="2026-02-01T00:00:00Z", parents=[write_parent(port=5432)])
    old = tcp([write_rule("v2")], name="b", created="2026-01-01T00:00:00Z", parents=[write_parent(port=5432)])
    found = Cluster(DB, V1, V2, young, old)
    table = found.build_table(5432)
    assert table.rules[table.order[0].rule].name == "tcproute/shop/b/0"
    assert [found.find_attachment(each, kind="TCPRoute").reason for each in "ab"] == ["", ""]


def test_an_invalid_backend_keeps_its_share():
    found = Cluster(DB, V1, tcp([write_rule({"name": "gone", "port": 80, "weight": 2}, "v1")]))
    gone, v1 = found.build_table(80).rules[0].backends
    assert (gone.weight, gone.port, gone.answer.status) == (2, None, 500)
    assert v1.port.number == 80
    assert [each.reason for each in found.find_attachment(kind="TCPRoute").refs] == ["BackendNotFound"]


def test_a_backend_that_carries_http_only_by_default_can_be_used_and_one_that_must_cannot():
    v2 = write_service("v2", "10.0.2.1", annotations={"maesh.containo.us/traffic-type": "http"})
    found = Cluster(DB, V1, v2, tcp([write_rule("v1", "v2")]))
    assert [each.reason for each in found.find_attachment(kind="TCPRoute").refs] == ["UnsupportedProtocol"]


@pytest.mark.parametrize("has_producer", [True, False])
def test_a_consumer_route_of_streams_is_for_clients_of_its_namespace_only(has_producer):
    web = write_service("web", ports=((5432, "db"),), annotations={"maesh.containo.us/traffic-type": "tcp"})
    theirs = tcp([write_rule({"name": "v2", "namespace": "shop", "port": 80})], namespace="lab")
    found = Cluster(web, V1, V2, theirs, *([tcp()] if has_producer else []))
    rules = found.build().rules[5432, "TCP"]
    assert [rule.name for rule in rules.consumers["lab"].rules] == ["tcproute/lab/web/0"]
    assert (rules.producer is None) is not has_producer
    assert found.find_attachment(kind="TCPRoute", namespace="lab").reason == ""


def test_a_consumer_route_of_streams_does_not_decide_the_traffic_type():
    found = Cluster(DB, V1, tcp(namespace="lab", parents=[write_parent(port=5432)]))
    assert (found.build().rules, found.build().traffic_types) == ({}, {})
    attachment = found.find_attachment(kind="TCPRoute", namespace="lab")
    assert (attachment.reason, attachment.ports) == ("NoMatchingParent", ())
    assert attachment.message == "port 5432 of Service web has the traffic type http, not tcp"


def test_the_oldest_consumer_route_of_a_namespace_gets_all_of_its_clients():
    web = write_service("web", ports=((53, "dns", UDP),), annotations={"maesh.containo.us/traffic-type": "udp"})
    v1 = write_service("v1", "10.0.1.1", ports=((53, "dns", UDP),))
    rule = write_rule({"name": "v1", "namespace": "shop", "port": 53})
    young = udp([rule], name="a", namespace="lab", created="2026-02-01T00:00:00Z")
    old = udp([rule], name="b", namespace="lab", created="2026-01-01T00:00:00Z")
    other = udp([rule], name="a", namespace="zoo")
    found = Cluster(web, v1, young, old, other)
    tables = found.build().rules[53, "UDP"].consumers
    chosen = {name: table.rules[table.order[0].rule].name for name, table in tables.items()}
    assert chosen == {"lab": "udproute/lab/b/0", "zoo": "udproute/zoo/a/0"}
    assert found.find_attachment("a", kind="UDPRoute", namespace="lab").reason == ""


def test_a_consumer_route_of_streams_that_cannot_be_used_closes_the_port_for_its_namespace_only():
    web = write_service("web", ports=((5432, "db"),), annotations={"maesh.containo.us/traffic-type": "tcp"})
    found = Cluster(web, V1, tcp([{}], namespace="lab"))
    rules = found.build().rules[5432, "TCP"]
    assert (rules.producer, rules.consumers["lab"].rules) == (None, ())
    assert found.build().notices == ()


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ({}, "backendRefs: it is required"),
        ({"backendRefs": [{"name": "v1"}]}, "port is missing"),
        ({"backendRefs": [{"name": "v1", "port": 80, "weight": -1}]}, "weight"),
        ({"backendRefs": [{"name": "v1", "port": 80, "filters": []}]}, "filters"),
        ({"backendRefs": [{"name": "v1", "port": 80}], "matches": []}, "matches"),
        ({"backendRefs": [{"name": "v1", "port": 80}], "name": "A_b"}, "valid name"),
        ("text", "not an object"),
    ],
)
def test_a_rule_that_cannot_be_used_is_dropped_and_closes_the_port(rule, text):
    found = Cluster(DB, V1, tcp([rule], parents=[write_parent(port=5432)]))
    assert found.build_table(5432).rules == ()
    attachment = found.find_attachment(kind="TCPRoute")
    assert attachment.reason == "UnsupportedValue"
    assert text in attachment.message


def test_only_the_first_rule_has_an_effect():
    found = Cluster(DB, V1, V2, tcp([write_rule("v1"), write_rule("v2")]))
    attachment = found.find_attachment(kind="TCPRoute")
    assert attachment.reason == ""
    assert [(each.rule, each.is_dropped) for each in attachment.rules] == [(1, True)]


@pytest.mark.parametrize("spec", [{}, {"rules": []}, {"rules": [{}], "hostnames": ["a"]}, {"rules": 1}])
def test_an_object_in_the_wrong_shape_has_faults_and_known_parents(spec):
    fields = {"spec": {"parentRefs": [write_parent()], **spec}}
    route = read_tcp_route(ObjectMeta(name="web", namespace="shop"), fields)
    assert route.faults
    assert route.rules == ()
    assert [each.service for each in route.parents] == [ObjectKey("shop", "web")]


def test_ranks_are_those_of_the_gateway_api():
    assert HttpRoute.rank > TcpRoute.rank > UdpRoute.rank
