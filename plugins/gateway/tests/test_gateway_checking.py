"""What is reported of routes, on the objects themselves."""

import pytest
from maesh_gateway.checking import RouteChecker
from maesh_gateway.controller import RouteBuilder
from maesh_gateway.routes import HttpRoute

from maesh_core.controller.reports.object_reports import ObjectReports
from maesh_core.controller.topology.builder import build_service_node
from maesh_core.controller.topology.rules import TopologyRules
from maesh_core.model.findings import Findings
from maesh_core.model.resources import Service

from .conftest import ALL_KINDS, write_parent, write_path, write_route, write_rule, write_service

WEB = write_service("web")


@pytest.fixture
def report(cluster):
    def report(*objects):
        found = cluster(*objects)
        reports = ObjectReports(found.snapshot, ALL_KINDS, [RouteChecker(HttpRoute)], TopologyRules())
        for key in found.snapshot.keys(Service):
            builders = [RouteBuilder(found.settings)]
            node = build_service_node(found.snapshot.view(), key, rules=found.rules, builders=builders)
            if node is not None:
                reports.set_service(key, Findings(), node.objects)
        reports.update(is_everything=True)
        return {each.name: (each.errors, each.notices) for each in reports.list_reports() if each.kind == "HTTPRoute"}

    return report


def test_a_good_route_is_not_reported(report):
    assert report(WEB, write_route(rules=[write_rule("web")])) == {}


def test_a_parent_that_is_not_there_is_an_error_that_names_the_nearest_service(report):
    route = write_route(rules=[write_rule("web")], parents=[write_parent("wbe"), write_parent()])
    text = "parentRefs[0]: there is no service wbe in namespace shop; did you mean web?"
    assert report(WEB, route) == {"web": ((text,), ())}


def test_a_route_without_a_parent_of_the_mesh_is_not_reported(report):
    assert report(WEB, write_route(rules=[write_rule("nope")], parents=[{"name": "gateway"}])) == {}


@pytest.mark.parametrize("group", [{}, {"group": "gateway.networking.k8s.io"}])
@pytest.mark.parametrize("others", [[], [write_parent()]])
def test_a_parent_service_without_its_group_is_not_used_and_a_notice_says_so(report, group, others):
    route = write_route(rules=[write_rule("web")], parents=[*others, {"kind": "Service", "name": "web", **group}])
    text = f'parentRefs[{len(others)}] has no effect: a parent of kind Service needs group: ""'
    assert report(WEB, route) == {"web": ((), (text,))}


def test_a_parent_that_the_mesh_ignores_is_a_notice(report):
    external = [write_service("web", type="ExternalName", externalName="a.example")[0]]
    text = "parentRefs[0] has no effect: the mesh ignores service web"
    assert report(external, write_route(rules=[write_rule("web")])) == {"web": ((), (text,))}


def test_errors_of_rules_are_reported_once_with_and_without_a_service(report):
    rules = [write_rule("web", matches=[write_path("bad")])]
    text = "rules[0].matches[0].path.value: 'bad' does not start with /"
    assert report(WEB, write_route(rules=rules)) == {"web": ((text,), ())}
    errors, _ = report(write_route(rules=rules))["web"]
    assert errors == (text, "parentRefs[0]: there is no service web in namespace shop")


def test_errors_of_backends_are_reported(report):
    assert report(WEB, write_route(rules=[write_rule("nope")])) == {
        "web": (("rules[0]: backend nope: there is no such Service",), ())
    }


def test_hostnames_have_no_effect_and_a_notice_says_so(report):
    text = "hostnames have no effect in a mesh; match the header Host"
    assert report(WEB, write_route(rules=[write_rule("web")], hostnames=["a.example"])) == {"web": ((), (text,))}


def test_a_missing_parent_in_another_namespace_is_an_error_without_a_search_there(report):
    route = write_route(rules=[write_rule("web")], namespace="client", parents=[write_parent("wbe")])
    text = "parentRefs[0]: the mesh knows no service wbe in namespace shop"
    assert report(WEB, route) == {"web": ((text,), ())}
