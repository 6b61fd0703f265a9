"""Backends: what they resolve to, and what is answered for those that cannot be used."""

import pytest
from maesh_gateway.controller import RouteBuilder
from maesh_gateway.routes import HttpRoute, ReferenceGrant

from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Service

from .conftest import write_parent, write_route, write_rule, write_service

WEB = write_service("web", ports=((80, "http"), (7070, "grpc")))
V1, V2 = write_service("v1", "10.0.1.1"), write_service("v2", "10.0.2.1")


def write_backend(name, **fields):
    return {"name": name, "port": 80, **fields}


@pytest.mark.parametrize(
    ("backend", "reason", "text"),
    [
        (write_backend("nope"), "BackendNotFound", "backend nope: there is no such Service"),
        (write_backend("v1", port=81), "BackendNotFound", "backend v1: the Service has no TCP port 81"),
        (write_backend("v1", kind="Gateway"), "InvalidKind", "backend v1: its kind 'Gateway' is not Service"),
        (write_backend("v1", group="a.b"), "InvalidKind", "backend v1: its kind 'a.b/Service' is not Service"),
        (write_backend("A/b:1"), "BackendNotFound", "backend A/b:1: no Service can have this name"),
        (write_backend("ä\n"), "BackendNotFound", "backend '\\xe4\\n': no Service can have this name"),
        (write_backend("v1", namespace="no"), "BackendNotFound", "backend no/v1: there is no such Service"),
    ],
)
def test_an_invalid_backend_keeps_its_weight_and_answers_500(cluster, backend, reason, text):
    rule = write_rule({**backend, "weight": 3}, write_backend("v2", weight=7))
    found = cluster(WEB, V1, V2, write_route(rules=[rule]))
    bad, good = found.find_rule().backends
    assert (bad.weight, bad.answer.status, bad.port, bad.answer.grpc_status) == (3, 500, None, None)
    assert (good.weight, good.answer, good.service.name) == (7, None, "v2")
    attachment = found.find_attachment()
    assert [(each.rule, each.reason, each.text) for each in attachment.refs] == [(0, reason, f"rules[0]: {text}")]
    assert attachment.reason == ""


def test_no_name_that_a_user_writes_gets_into_a_key_unchecked(cluster):
    found = cluster(WEB, write_route(rules=[write_rule(write_backend("a/b:1@c", namespace="web"))]))
    assert found.find_rule().backends[0].service == ObjectKey("shop", "web")


def test_an_invalid_backend_of_a_call_is_unavailable(cluster):
    found = cluster(WEB, write_route(rules=[write_rule("nope")], kind="GRPCRoute"))
    assert found.find_rule().backends[0].answer.grpc_status == 14


def test_a_backend_without_ready_pods_stays_a_backend(cluster):
    found = cluster(WEB, write_service("v3", ""), write_route(rules=[write_rule("v3")]))
    rule = found.find_rule()
    assert rule.keeps_shares
    assert rule.backends[0].answer is None
    assert rule.backends[0].servers == ()


def test_a_service_can_be_its_own_backend(cluster):
    found = cluster(WEB, write_route(rules=[write_rule("web")]))
    assert found.find_rule().backends[0].service == ObjectKey("shop", "web")


@pytest.mark.parametrize("kind", ["HTTPRoute", "GRPCRoute"])
def test_without_backends_a_rule_answers_500(cluster, kind):
    found = cluster(WEB, write_route(rules=[write_rule()], kind=kind))
    answer = found.find_rule().answer
    assert (answer.status, answer.grpc_status) == (500, 12 if kind == "GRPCRoute" else None)
    assert answer.reason == f"{kind} shop/web, rules[0]: it has no backend"


def test_with_weights_of_0_alone_a_rule_answers_500(cluster):
    found = cluster(WEB, V1, write_route(rules=[write_rule(write_backend("v1", weight=0))]))
    assert found.find_rule().answer.reason == "HTTPRoute shop/web, rules[0]: the weights of all backends are 0"


@pytest.mark.parametrize("weight", [0, 1])
def test_a_rule_with_sessions_keeps_its_backends_of_weight_0(cluster, weight):
    backends = (write_backend("v1", weight=weight), write_backend("v2", weight=0))
    session = {"sessionPersistence": {"type": "Cookie"}}
    rule = cluster(WEB, V1, V2, write_route(rules=[write_rule(*backends, **session)])).find_rule()
    assert (rule.answer, rule.keeps_idle, [each.weight for each in rule.backends]) == (None, True, [weight, 0])
    assert not cluster(WEB, V1, write_route(rules=[write_rule("v1")])).find_rule().keeps_idle


def test_an_invalid_backend_of_weight_0_is_reported_and_costs_nothing(cluster):
    found = cluster(WEB, V1, write_route(rules=[write_rule("v1", write_backend("nope", weight=0))]))
    assert [each.weight for each in found.find_rule().backends] == [1, 0]
    assert found.find_attachment().refs[0].reason == "BackendNotFound"


def test_a_backend_of_another_traffic_type_is_not_supported(cluster):
    tcp = write_service("v3", annotations={"maesh.containo.us/traffic-type": "tcp"})
    found = cluster(WEB, tcp, write_route(rules=[write_rule("v3")]))
    assert found.find_attachment().refs[0].reason == "UnsupportedProtocol"


@pytest.mark.parametrize(
    ("kind", "app_protocol", "annotations", "is_supported"),
    [
        ("HTTPRoute", "kubernetes.io/h2c", {}, True),
        ("HTTPRoute", "kubernetes.io/ws", {}, True),
        ("HTTPRoute", "http", {}, True),
        ("HTTPRoute", "mysql", {}, False),
        ("HTTPRoute", "mysql", {"maesh.containo.us/scheme": "http"}, True),
        ("GRPCRoute", "kubernetes.io/h2c", {}, True),
        ("GRPCRoute", "https", {}, True),
        ("GRPCRoute", "kubernetes.io/ws", {}, False),
        ("GRPCRoute", "http", {}, False),
    ],
)
def test_the_protocol_of_a_backends_port_must_be_one_that_the_route_speaks(
    cluster, kind, app_protocol, annotations, is_supported
):
    v3 = write_service("v3", ports=((80, "http", {"appProtocol": app_protocol}),), annotations=annotations)
    found = cluster(WEB, v3, write_route(rules=[write_rule("v3")], kind=kind))
    refs = found.find_attachment(kind=kind).refs
    assert [each.reason for each in refs] == ([] if is_supported else ["UnsupportedProtocol"])


def test_a_backend_of_a_call_is_called_with_http_2_unless_it_says_otherwise(cluster):
    v3 = write_service("v3", annotations={"maesh.containo.us/scheme": "https"})
    found = cluster(WEB, V1, v3, write_route(rules=[write_rule("v1", "v3")], kind="GRPCRoute"))
    assert [each.protocol for each in found.find_rule().backends] == ["h2c", ""]
    assert cluster(WEB, V1, write_route(rules=[write_rule("v1")])).find_rule().backends[0].protocol == ""


# --- repeated builds

OTHER = write_service("v1", "10.0.3.1", namespace="other")
ROUTE = write_route(rules=[write_rule(write_backend("v1", namespace="other"))])


def test_a_build_is_repeated_when_a_route_a_grant_or_a_missing_service_appears(cluster):
    found = cluster(WEB, ROUTE, grants="strict")
    view = found.view
    node = view.build_service(ObjectKey("shop", "web"))
    RouteBuilder(found.settings).build(view, node)
    reads = {str(each[0].__name__): each for each in view._view.reads if each[0] in (HttpRoute, ReferenceGrant)}
    assert reads["HttpRoute"].value == ObjectKey("shop", "web")
    assert reads["ReferenceGrant"].value == "other"
    found = cluster(WEB, ROUTE)
    view = found.view
    RouteBuilder(found.settings).build(view, view.build_service(ObjectKey("shop", "web")))
    assert (Service, ObjectKey("other", "v1")) in view._view.reads


def test_the_parents_port_and_the_backends_port_are_unrelated(cluster):
    v3 = write_service("v3", ports=((8080, "http-alt"),))
    route = write_route(rules=[write_rule({"name": "v3", "port": 8080})], parents=[write_parent(port=80)])
    assert cluster(WEB, v3, route).find_rule().backends[0].port.number == 8080
