"""The conditions of routes: types, statuses and reasons as the Gateway API defines them."""

import msgspec
import pytest
from maesh_gateway.routes import GrpcRoute, HttpRoute
from maesh_gateway.statuses.status import MESSAGE_LIMIT, RouteStatusBuilder
from maesh_gateway.statuses.verdicts import NAME

from maesh_core.model.keys import ObjectKey
from maesh_core.model.topology import RuleProblem

from .conftest import Cluster, write_parent, write_path, write_route, write_rule, write_service

WEB = write_service("web", ports=((80, "http"), (8080, "alt")))
V1 = write_service("v1", "10.0.1.1")
GOOD = write_rule("v1")
BAD_MATCH = write_rule("v1", matches=[write_path("no-slash")])
BAD_FILTER = write_rule("v1", filters=[{"type": "RequestRedirect"}])
REWRITE = {"type": "URLRewrite", "urlRewrite": {"hostname": "a.example"}}
REDIRECT = {"type": "RequestRedirect", "requestRedirect": {"hostname": "a.example"}}


def build(*objects, name="web", type_=HttpRoute, problems=(), generation=0, **options):
    """Build the status of a route of namespace `shop`, with the findings of all services of `web`."""
    cluster = Cluster(*objects, **options)
    route = next(each for each in cluster.resources[type_] if each.metadata.name == name)
    metadata = msgspec.structs.replace(route.metadata, generation=generation)
    services = {}
    for service in ("web", "v1"):
        key = ObjectKey("shop", service)
        node = cluster.view.build_service(key)
        addition = node and cluster.build(service)
        if addition:
            services[key] = msgspec.structs.replace(node, additions={NAME: addition.value}, rule_problems=problems)
    route = msgspec.structs.replace(route, metadata=metadata)
    return RouteStatusBuilder(type_).build_status(cluster.view, route, services)


def list_conditions(status, parent=0):
    """List type, status and reason of each condition of a parent."""
    conditions = status.entries[parent]["conditions"]
    return [(each["type"], each["status"], each["reason"]) for each in conditions]


def find_message(status, type_, parent=0):
    return next(each["message"] for each in status.entries[parent]["conditions"] if each["type"] == type_)


ACCEPTED = ("Accepted", "True", "Accepted")
RESOLVED = ("ResolvedRefs", "True", "ResolvedRefs")
PARTLY = ("PartiallyInvalid", "True", "UnsupportedValue")


def test_a_route_in_force_is_accepted_with_its_references_resolved():
    found = build(WEB, V1, write_route(rules=[GOOD]), generation=3)
    assert found.entries == (
        {
            "parentRef": {"group": "", "kind": "Service", "name": "web", "namespace": "shop"},
            "controllerName": "maesh.containo.us/mesh",
            "conditions": [
                {
                    "type": "Accepted",
                    "status": "True",
                    "reason": "Accepted",
                    "message": "it decides about ports 80 and 8080 of web",
                    "observedGeneration": 3,
                },
                {
                    "type": "ResolvedRefs",
                    "status": "True",
                    "reason": "ResolvedRefs",
                    "message": "",
                    "observedGeneration": 3,
                },
            ],
        },
    )


def test_a_route_without_a_parent_of_the_mesh_gets_no_status():
    parents = [{"name": "web"}, {"name": "web", "kind": "Gateway", "group": "gateway.networking.k8s.io"}]
    assert build(WEB, write_route(rules=[GOOD], parents=parents)) is None


def test_each_parent_has_an_entry_with_its_own_conditions_and_others_have_none():
    parents = [{"name": "gate"}, write_parent(port=80), write_parent(port=81), write_parent("gone")]
    found = build(WEB, V1, write_route(rules=[GOOD], parents=parents))
    assert [each["parentRef"].get("port") for each in found.entries] == [80, 81, None]
    assert list_conditions(found, 0) == [ACCEPTED, RESOLVED]
    assert list_conditions(found, 1) == [("Accepted", "False", "NoMatchingParent")]
    assert list_conditions(found, 2) == [("Accepted", "False", "NoMatchingParent")]
    assert find_message(found, "Accepted", 2) == "there is no Service gone in namespace shop"


def test_a_parent_is_repeated_as_it_is_written():
    parent = {"kind": "Service", "group": "core", "name": "web", "sectionName": "http"}
    found = build(WEB, V1, write_route(rules=[GOOD], parents=[parent]))
    assert found.entries[0]["parentRef"] == parent


def test_fields_that_no_parent_can_have_are_left_out_of_the_status():
    parent = {"kind": "Service", "group": "", "name": "web", "port": "80", "what": {}}
    found = build(WEB, V1, write_route(rules=[GOOD], parents=[parent]))
    assert found.entries[0]["parentRef"] == {"kind": "Service", "group": "", "name": "web"}
    assert list_conditions(found) == [("Accepted", "False", "UnsupportedValue")]


@pytest.mark.parametrize(
    ("backend", "reason"),
    [
        ("gone", "BackendNotFound"),
        ({"name": "v1", "port": 99}, "BackendNotFound"),
        ({"name": "v1", "port": 80, "kind": "Bucket", "group": "example.org"}, "InvalidKind"),
    ],
)
def test_an_invalid_backend_leaves_the_route_accepted(backend, reason):
    found = build(WEB, V1, write_route(rules=[write_rule("v1", backend), GOOD]))
    assert list_conditions(found) == [ACCEPTED, ("ResolvedRefs", "False", reason)]
    assert "backend" in find_message(found, "ResolvedRefs")


def test_a_backend_that_is_not_permitted_has_its_own_reason():
    far = write_service("far", "10.0.3.1", namespace="other")
    route = write_route(rules=[write_rule({"name": "far", "namespace": "other", "port": 80})])
    assert list_conditions(build(WEB, V1, far, route)) == [ACCEPTED, RESOLVED]
    found = build(WEB, V1, far, route, grants="strict")
    assert list_conditions(found) == [ACCEPTED, ("ResolvedRefs", "False", "RefNotPermitted")]


def test_the_backend_of_a_mirror_counts():
    mirror = {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "gone", "port": 80}}}
    found = build(WEB, V1, write_route(rules=[write_rule("v1", filters=[mirror])]))
    assert list_conditions(found) == [ACCEPTED, ("ResolvedRefs", "False", "BackendNotFound")]


@pytest.mark.parametrize("bad", [BAD_MATCH, BAD_FILTER])
def test_a_route_of_which_some_rules_are_valid_is_accepted_and_partially_invalid(bad):
    found = build(WEB, V1, write_route(rules=[GOOD, bad]))
    assert list_conditions(found) == [ACCEPTED, RESOLVED, PARTLY]
    assert find_message(found, "PartiallyInvalid").startswith("Dropped Rule 1: rules[1]")


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ([BAD_MATCH], "UnsupportedValue"),
        ([BAD_FILTER, BAD_MATCH], "UnsupportedValue"),
        ([write_rule(filters=[REDIRECT, REWRITE])], "IncompatibleFilters"),
    ],
)
def test_a_route_without_a_valid_rule_is_not_accepted(rules, reason):
    found = build(WEB, V1, write_route(rules=rules))
    assert list_conditions(found) == [("Accepted", "False", reason)]


def test_a_filter_that_its_plugin_refuses_makes_a_rule_invalid():
    def problem(rule, **fields):
        return RuleProblem(
            port=80,
            text=f"rule {rule} is odd",
            rule=f"httproute/shop/web/{rule}",
            origin=(HttpRoute, ObjectKey("shop", "web")),
            filter="URLRewrite",
            **fields,
        )

    route = write_route(rules=[GOOD, GOOD])
    found = build(WEB, V1, route, problems=(problem(1),))
    assert list_conditions(found) == [ACCEPTED, RESOLVED, PARTLY]
    assert find_message(found, "PartiallyInvalid") == "Dropped Rule 1: rule 1 is odd"
    found = build(WEB, V1, route, problems=(problem(0), problem(1)))
    assert list_conditions(found) == [("Accepted", "False", "UnsupportedValue")]
    backends = (problem(0, backend=ObjectKey("shop", "v1")), problem(1, backend=ObjectKey("shop", "v1")))
    found = build(WEB, V1, route, problems=backends[:1])
    assert list_conditions(found) == [ACCEPTED, RESOLVED, PARTLY]
    text = find_message(found, "PartiallyInvalid")
    assert text == "Dropped Rule 0: rules[0]: backend v1@shop: rule 0 is odd"
    found = build(WEB, V1, route, problems=backends)
    assert list_conditions(found) == [ACCEPTED, RESOLVED, PARTLY]  # both rules decide, with errors for a share
    other = msgspec.structs.replace(problem(1), origin=(HttpRoute, ObjectKey("shop", "other")))
    assert list_conditions(build(WEB, V1, route, problems=(other,))) == [ACCEPTED, RESOLVED]


def test_a_route_of_another_kind_on_the_same_port_conflicts():
    grpc = write_route("calls", [GOOD], kind="GRPCRoute", parents=[write_parent(port=80)])
    http = write_route(rules=[GOOD], parents=[write_parent(port=80)])
    found = build(WEB, V1, http, grpc)
    assert list_conditions(found) == [("Accepted", "False", "Conflicted"), RESOLVED]
    assert list_conditions(build(WEB, V1, http, grpc, name="calls", type_=GrpcRoute)) == [ACCEPTED, RESOLVED]


def test_an_object_with_faults_is_not_accepted():
    route = {**write_route(rules=[GOOD]), "spek": {}}
    assert list_conditions(build(WEB, V1, route)) == [("Accepted", "False", "UnsupportedValue")]


def test_messages_are_bounded():
    rules = [write_rule(*(f"gone-{index}-{number}" + "x" * 40 for number in range(16))) for index in range(16)]
    found = build(WEB, V1, write_route(rules=rules))
    text = find_message(found, "ResolvedRefs")
    assert text.endswith("; and 248 more")
    assert len(text) <= MESSAGE_LIMIT
    long = RuleProblem(
        port=80, text="x" * 9000, rule="httproute/shop/web/0", origin=(HttpRoute, ObjectKey("shop", "web"))
    )
    found = build(WEB, V1, write_route(rules=[GOOD, GOOD]), problems=(long,))
    assert len(find_message(found, "PartiallyInvalid")) == MESSAGE_LIMIT
