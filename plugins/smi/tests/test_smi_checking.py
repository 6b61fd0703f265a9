"""What is reported of splits and route groups that have no effect, on the objects themselves."""

import pytest
import yaml
from maesh_smi.checking import GroupChecker, SplitChecker
from maesh_smi.kinds import KINDS

from maesh_core.controller.reports.object_reports import ObjectReports
from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.controller.topology.rules import TopologyRules
from maesh_core.model.findings import Findings
from maesh_core.model.resources import Service


def write_service(name, *, extra=""):
    return f"""
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: shop}}
spec: {{selector: {{app: {name}}}, ports: [{{port: 80}}]{extra}}}"""


def write_split(name, root, *backends, matches=()):
    spec = {
        "service": root,
        "backends": [{"service": backend, "weight": 1} for backend in backends],
        "matches": [{"kind": "HTTPRouteGroup", "name": each} for each in matches],
    }
    head = {"apiVersion": "split.smi-spec.io/v1alpha4", "kind": "TrafficSplit"}
    return "\n---\n" + yaml.safe_dump({**head, "metadata": {"name": name, "namespace": "shop"}, "spec": spec})


def write_group(name, *matches, kind="HTTPRouteGroup"):
    head = {"apiVersion": "specs.smi-spec.io/v1alpha4", "kind": kind, "metadata": {"name": name, "namespace": "shop"}}
    return "\n---\n" + yaml.safe_dump({**head, "spec": {"matches": list(matches)} if matches else {}})


ALL = {"name": "all", "pathRegex": "/"}


@pytest.fixture
def report(cluster):
    def report(*texts):
        mesh = cluster(*texts)
        assert not mesh.manifest.errors
        kinds = (*CORE_KINDS, *KINDS)
        reports = ObjectReports(mesh.snapshot, kinds, [SplitChecker(), GroupChecker()], TopologyRules())
        for key in mesh.snapshot.keys(Service):
            node = mesh.build_node(key.name)
            if node is not None:
                reports.set_service(key, Findings(), node.objects)
        reports.update(is_everything=True)
        return {f"{each.kind} {each.name}": (each.errors, each.notices) for each in reports.list_reports()}

    return report


def test_a_split_of_a_service_that_is_not_there_names_the_nearest_one(report):
    assert report(write_service("website"), write_split("s", "webiste", "website")) == {
        "TrafficSplit s": (("there is no service webiste in namespace shop; did you mean website?",), ())
    }
    assert report(write_service("api"), write_split("s", "webiste", "api")) == {
        "TrafficSplit s": (("there is no service webiste in namespace shop",), ())
    }


def test_a_split_of_another_namespaces_service_divides_nothing(report):
    assert report(write_service("web"), write_split("far", "web.other.svc", "web")) == {
        "TrafficSplit far": (("service web.other.svc is in another namespace, so the split has no effect",), ())
    }


def test_what_the_reader_of_a_split_found_is_not_said_twice(report):
    misspelt = write_split("s", "web", "web").replace("backends", "backend")
    assert report(write_service("web"), write_split("bare", "", "web"), misspelt) == {}


def test_a_split_of_a_service_that_the_mesh_leaves_alone_divides_nothing(report):
    outside = write_service("web", extra=", type: ExternalName, externalName: example.org")
    assert report(outside, write_split("s", "web", "web")) == {
        "TrafficSplit s": ((), ("it has no effect: the mesh ignores service web",))
    }


def test_a_split_with_an_effect_is_not_reported(report):
    assert report(write_service("web"), write_service("v2"), write_split("s", "web", "v2")) == {}


def test_what_is_wrong_with_a_split_of_a_service_is_reported_on_the_split(report):
    found = report(write_service("web"), write_service("v1"), write_split("s", "web", "v1", "v2"))
    assert found == {"TrafficSplit s": (("backend v2: the service does not exist; it is ignored",), ())}


@pytest.mark.parametrize("kind", ["HTTPRouteGroup", "TCPRoute", "UDPRoute"])
def test_a_route_group_that_nothing_names_has_no_effect(report, kind):
    notice = "no TrafficSplit refers to it, so it has no effect"
    assert report(write_group("g", *([ALL] if kind == "HTTPRouteGroup" else []), kind=kind)) == {
        f"{kind} g": ((), (notice,))
    }


def test_a_route_group_that_a_split_names_has_its_effect(report):
    parts = write_service("web"), write_service("v2"), write_group("g", ALL)
    assert report(*parts, write_split("s", "web", "v2", matches=["g"])) == {}


def test_a_bad_route_group_has_its_error_itself(report):
    bad = write_group("g", {"name": "m", "pathRegex": "("})
    errors, _ = report(write_service("web"), bad)["HTTPRouteGroup g"]
    assert len(errors) == 1
    assert errors[0].startswith("HTTPRouteGroup g: match m: ")
