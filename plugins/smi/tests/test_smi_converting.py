"""Splits in, routes of the Gateway API out, with notes where they differ."""

import pytest
from maesh_smi.converting import CONVERTER

from maesh_core.controller.topology.builder import BuilderView
from maesh_core.controller.topology.rules import TopologyRules

from .conftest import Cluster, write_service, write_split

GROUP = """
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: beta, namespace: shop}
spec: {matches: [{name: testers, headers: {X-Group: ^beta$}}, {name: api, pathRegex: "/api(/|$)", methods: [GET]}]}"""
BASE = [write_service(name) for name in ("web", "a", "b", "c")]


def convert(*texts):
    found = Cluster(*texts)
    view = BuilderView(found.snapshot.view(), TopologyRules())
    return CONVERTER.convert(view, [each.resource for each in found.manifest.resources])


def convert_one(*texts):
    conversion = convert(*texts)
    assert not conversion.failures
    (found,) = conversion.objects
    return found


def list_backends(rule):
    return [(each["name"], each["port"], each.get("weight", 1)) for each in rule["backendRefs"]]


def test_a_split_becomes_a_route_with_the_same_weights():
    found = convert_one(*BASE, write_split("canary", "web", {"a": 900, "b": 100}))
    assert found.value == {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": "web"}],
            "rules": [
                {"backendRefs": [{"name": "a", "port": 80, "weight": 9}, {"name": "b", "port": 80, "weight": 1}]}
            ],
        },
    }
    assert found.notes == ("Service web, port 80: TrafficSplit canary.",)


def test_requests_that_no_split_matches_still_go_to_the_service_itself():
    found = convert_one(*BASE, GROUP, write_split("beta", "web", {"b": 1}, matches=["beta"]))
    matched, rest = found.value["spec"]["rules"]
    assert matched["matches"] == [
        {"headers": [{"name": "x-group", "value": "beta"}]},
        {"path": {"type": "PathPrefix", "value": "/api"}, "method": "GET"},
    ]
    assert (list_backends(matched), list_backends(rest)) == ([("b", 80, 1)], [("web", 80, 1)])
    assert "matches" not in rest


def test_nested_splits_become_the_shares_of_their_leaves():
    found = convert(*BASE, write_split("canary", "web", {"a": 1, "b": 1}), write_split("builds", "b", {"c": 1, "a": 1}))
    routes = {each.value["metadata"]["name"]: each.value["spec"]["rules"] for each in found.objects}
    assert list_backends(routes["web"][0]) == [("a", 80, 3), ("c", 80, 1)]
    assert list_backends(routes["b"][0]) == [("a", 80, 1), ("c", 80, 1)]


@pytest.mark.parametrize(("traffic", "kind"), [("tcp", "TCPRoute"), ("http", "HTTPRoute")])
def test_the_traffic_type_decides_the_kind_of_route(traffic, kind):
    annotations = f"maesh.containo.us/traffic-type: {traffic}"
    services = [write_service(name, annotations=annotations) for name in ("web", "a")]
    found = convert_one(*services, write_split("canary", "web", {"a": 1}))
    assert found.value["kind"] == kind
    assert list_backends(found.value["spec"]["rules"][0]) == [("a", 80, 1)]


def test_each_port_gets_a_route_of_its_own():
    services = [
        write_service(name).replace("ports: [", "ports: [{name: admin, port: 81, targetPort: 1, protocol: TCP}, ")
        for name in ("web", "a")
    ]
    services = [each.replace("{port: 80,", "{name: http, port: 80,") for each in services]
    found = convert(*services, write_split("canary", "web", {"a": 1}))
    parents = [each.value["spec"]["parentRefs"][0]["sectionName"] for each in found.objects]
    names = [each.value["metadata"]["name"] for each in found.objects]
    assert sorted(zip(names, parents, strict=True)) == [("web-80", "http"), ("web-81", "admin")]


def test_weights_above_the_limit_are_rounded():
    found = convert_one(*BASE, write_split("canary", "web", {"a": 999_999_999, "b": 1}))
    assert list_backends(found.value["spec"]["rules"][0]) == [("a", 80, 1_000_000), ("b", 80, 1)]
    assert "The weights are rounded, because those of routes end at 1000000." in found.notes


def test_what_differs_is_noted_for_people():
    found = convert_one(*BASE, write_split("canary", "web", {"a": 0}), GROUP)
    assert any(note.startswith("CHECK: no backend has a weight") for note in found.notes)
    ignored = convert_one(*BASE, write_split("canary", "web", {"a": 1, "gone": 1}))
    assert "TrafficSplit canary: backend gone: the service does not exist; it is ignored" in ignored.notes
    conversion = convert(*BASE, write_split("canary", "web", {"a": 1}), GROUP)
    assert [note.partition(" ")[0] for note in conversion.notes] == ["Made", "A", "TrafficTargets"]


@pytest.mark.parametrize(
    ("split", "failure"),
    [
        (write_split("canary", "gone", {"a": 1}), "there is no service gone"),
        (write_split("canary", "web.other.svc", {"a": 1}), "is in another namespace"),
        (write_split("canary", "web", {"a": 1}).replace("backends", "backend"), "cannot be read"),
        (write_split("canary", "web", {f"a{number}": 1 for number in range(17)}), "more than 16 backends"),
    ],
)
def test_what_cannot_be_converted_is_a_failure_and_the_rest_is_converted(split, failure):
    more = [write_service(f"a{number}") for number in range(17)]
    conversion = convert(*BASE, *more, split, write_split("other", "c", {"a": 1}))
    assert [each.value["metadata"]["name"] for each in conversion.objects] == ["c"]
    assert len(conversion.failures) == 1
    assert failure in conversion.failures[0]


def test_without_splits_nothing_is_printed():
    conversion = convert(*BASE)
    assert (conversion.objects, conversion.notes, conversion.failures) == ((), (), ())
