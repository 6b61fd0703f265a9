"""What each parent of a route decides about it."""

from maesh_gateway.controller import RouteBuilder
from maesh_gateway.routes import HttpRoute
from maesh_gateway.statuses.verdicts import judge

from maesh_core.controller.topology.builder import build_service_node
from maesh_core.model.keys import ObjectKey

from .conftest import write_parent, write_path, write_route, write_rule, write_service

WEB, V1 = write_service("web"), write_service("v1", "10.0.1.1")


def judge_route(found, name="web"):
    """Judge a route with the nodes of the services that its builds concern."""
    route = next(each for each in found.resources[HttpRoute] if each.metadata.name == name)
    services = {}
    for key in (ObjectKey("shop", "web"), ObjectKey("shop", "v1")):
        node = build_service_node(
            found.snapshot.view(), key, rules=found.rules, builders=[RouteBuilder(found.settings)]
        )
        if node is not None and any(each.key == route.key for each in node.objects):
            services[key] = node
    return judge(route, services)


def test_an_accepted_parent_has_no_reason(cluster):
    (verdict,) = judge_route(cluster(WEB, V1, write_route(rules=[write_rule("v1")])))
    assert (verdict.reason, verdict.ports, verdict.refs, verdict.rules) == ("", (80,), (), ())
    assert verdict.parent.written["name"] == "web"


def test_each_parent_has_a_verdict_of_its_own(cluster):
    parents = [
        write_parent(port=80),
        write_parent(port=81),
        write_parent("gone"),
        write_parent(bad=1),
        write_parent("v1"),
    ]
    verdicts = judge_route(cluster(WEB, V1, write_route(rules=[write_rule("v1")], parents=parents)))
    assert [each.reason for each in verdicts] == ["", "NoMatchingParent", "NoMatchingParent", "UnsupportedValue", ""]
    assert verdicts[2].message == "there is no Service gone in namespace shop"


def test_nothing_is_said_about_backends_where_the_parent_is_missing(cluster):
    parents = [write_parent("gone"), write_parent(port=81)]
    verdicts = judge_route(cluster(WEB, write_route(rules=[write_rule("nope")], parents=parents)))
    assert [each.refs for each in verdicts] == [(), ()]


def test_a_route_of_which_some_rules_are_bad_is_accepted_without_them(cluster):
    rules = [write_rule("v1"), write_rule("v1", matches=[write_path("bad")])]
    (verdict,) = judge_route(cluster(WEB, V1, write_route(rules=rules)))
    assert verdict.reason == ""
    assert [each.rule for each in verdict.rules] == [1]


def test_a_route_of_which_all_rules_are_bad_is_not_accepted(cluster):
    (verdict,) = judge_route(cluster(WEB, V1, write_route(rules=[write_rule("v1", matches=[write_path("bad")])])))
    assert verdict.reason == "UnsupportedValue"


def test_an_invalid_backend_leaves_the_route_accepted(cluster):
    (verdict,) = judge_route(cluster(WEB, write_route(rules=[write_rule("nope")])))
    assert (verdict.reason, [each.reason for each in verdict.refs]) == ("", ["BackendNotFound"])
