"""What is reported of targets without effect, on the targets themselves and on pods that stand for nobody."""

import pytest
from maesh_acl import AccessSettings
from maesh_acl.controller import ControllerHalf
from maesh_acl.granting.checking import TargetChecker

from maesh_core.controller.reports.object_reports import ObjectReports
from maesh_core.controller.topology.rules import TopologyRules
from maesh_core.model.findings import Findings
from maesh_core.model.resources import Service

from .conftest import (
    ALL_KINDS,
    build_group,
    build_object,
    build_pod,
    build_route,
    build_service,
    build_split,
    build_target,
)

SERVER = build_pod("web-1", "10.0.1.1", "server", app="web")
CALLER = build_pod("caller-1", "10.0.2.1", "caller")
WEB = build_service("web")
GROUP = build_group("api", {"name": "read", "pathRegex": "/"})


@pytest.fixture
def report(cluster):
    def report(*objects):
        mesh = cluster(*objects)
        checkers = ControllerHalf(AccessSettings()).maesh_object_checkers()
        reports = ObjectReports(mesh.snapshot, ALL_KINDS, checkers, TopologyRules())
        for key in mesh.snapshot.keys(Service):
            node = mesh.build_node(key.name)
            reports.set_service(key, Findings(), node.objects)
            for each in node.objects:
                for text in each.notices:
                    if each.type is TargetChecker.type:
                        assert any(text in notice and each.key.name in notice for notice in node.notices)
        reports.update(is_everything=True)
        return {f"{each.kind} {each.name}": [*each.errors, *each.notices] for each in reports.list_reports()}

    return report


def test_a_target_with_an_effect_is_not_reported(report):
    assert report(WEB, SERVER, CALLER, build_target("t", "server", ["caller"])) == {}
    rules = [("HTTPRouteGroup", "api")]
    assert report(WEB, SERVER, CALLER, GROUP, build_target("t", "server", ["caller"], rules)) == {}


def test_a_target_whose_accounts_no_pod_has_says_so(report):
    found = report(WEB, SERVER, build_target("t", "ghost", ["spirit"]))
    assert found == {
        "TrafficTarget t": [
            "no pod has its destination's service account ghost@shop, so it grants nothing",
            "source spirit of namespace shop matches no client: no pod has this service account",
        ]
    }


def test_a_target_of_pods_that_are_behind_no_service_says_so(report):
    lone = build_pod("lone-1", "10.0.3.1", "lone")
    assert report(WEB, SERVER, CALLER, lone, build_target("t", "lone", ["caller"])) == {
        "TrafficTarget t": [
            "no service has pods with its destination's service account lone@shop, so it grants nothing"
        ]
    }


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"kind": "ServiceAccount", "name": "caller"}, "source caller has no namespace, so it matches no client"),
        ({"kind": "ServiceAccount", "namespace": "shop"}, "source (without name) has no name, so it matches no client"),
        (
            {"kind": "Group", "name": "caller", "namespace": "shop"},
            "source caller is of kind 'Group' and not ServiceAccount, so it matches no client",
        ),
    ],
)
def test_a_source_that_is_nobody_is_named(report, source, said):
    target = build_target("t", "server", [])
    target["spec"]["sources"] = [source]
    assert report(WEB, SERVER, CALLER, target) == {"TrafficTarget t": [said]}


def test_a_target_without_sources_allows_no_client(report):
    assert report(WEB, SERVER, build_target("t", "server", [])) == {
        "TrafficTarget t": ["it has no sources, so it allows no client"]
    }


@pytest.mark.parametrize(
    ("kind", "rules", "said"),
    [
        ("udp", [], "UDPRoute"),
        ("udp", [("HTTPRouteGroup", "api")], "UDPRoute"),
        ("tcp", [], "TCPRoute"),
        ("tcp", [("HTTPRouteGroup", "api")], "TCPRoute"),
        ("tcp", [("UDPRoute", "dns")], "TCPRoute"),
        ("http", [("UDPRoute", "dns")], "HTTPRouteGroup"),
    ],
)
def test_a_target_whose_rules_do_not_fit_its_services_protocol_says_so(report, kind, rules, said):
    protocol = "UDP" if kind == "udp" else "TCP"
    service = build_service("web", kind=kind, protocol=protocol)
    routes = [GROUP] if ("HTTPRouteGroup", "api") in rules else []
    routes += [build_route("UDPRoute", "dns")] if ("UDPRoute", "dns") in rules else []
    found = report(service, SERVER, CALLER, *routes, build_target("t", "server", ["caller"], rules))
    assert found == {
        "TrafficTarget t": [
            f"it has no {said} in its rules, so it grants no access to {kind} port 80 of service web@shop"
        ]
    }


def test_rules_that_fit_one_port_are_not_said_to_fit_none(report):
    service = build_service("web")
    service["spec"]["ports"].append({"name": "b", "port": 81, "targetPort": 8081})
    service["spec"]["ports"][0]["name"] = "a"
    only = [("TCPRoute", "one")]
    assert (
        report(
            service,
            SERVER,
            CALLER,
            build_route("TCPRoute", "one", [8081]),
            build_target("t", "server", ["caller"], only),
        )
        == {}
    )
    found = report(
        service, SERVER, CALLER, build_route("TCPRoute", "one", [9999]), build_target("t", "server", ["caller"], only)
    )
    assert found == {
        "TrafficTarget t": [
            "its ports match no port of the pods, so it grants no access to http port 80 of service web@shop"
        ]
    }


def test_a_target_that_fits_another_service_still_names_the_one_it_does_not_fit(report):
    stream = build_service("stream", kind="tcp")
    stream["spec"]["selector"] = {"app": "web"}
    assert report(WEB, stream, SERVER, CALLER, build_target("t", "server", ["caller"])) == {
        "TrafficTarget t": [
            "it has no TCPRoute in its rules, so it grants no access to tcp port 80 of service stream@shop"
        ]
    }


def test_an_error_of_a_target_is_on_the_target(report):
    found = report(WEB, SERVER, CALLER, build_target("t", "server", ["caller"], [("HTTPRouteGroup", "gone")]))
    assert found == {"TrafficTarget t": ["there is no HTTPRouteGroup gone in namespace shop"]}


def test_pods_of_two_accounts_that_share_an_address_are_named(report):
    other = build_pod("other-1", "10.0.2.1", "other")
    found = report(WEB, SERVER, CALLER, other, build_target("t", "server", ["caller"]))
    tail = "an address of several service accounts identifies none of them"
    assert found == {
        "Pod caller-1": [f"its address 10.0.2.1 is also the address of other-1@shop (other@shop); {tail}"],
        "Pod other-1": [f"its address 10.0.2.1 is also the address of caller-1@shop (caller@shop); {tail}"],
    }
    assert report(WEB, SERVER, CALLER, other, build_target("t", "server", ["caller", "other"])) == {}


def test_a_pod_on_its_nodes_address_is_named(report):
    pod = build_pod("caller-1", "10.0.2.1", "caller")
    pod["spec"]["hostNetwork"] = True
    found = report(WEB, SERVER, pod, build_target("t", "server", ["caller"]))
    assert found == {"Pod caller-1": ["it has its node's address, which identifies no client"]}


def test_a_route_group_that_neither_a_split_nor_a_target_names_has_no_effect(report):
    assert report(WEB, SERVER, CALLER, GROUP) == {
        "HTTPRouteGroup api": ["no TrafficSplit or TrafficTarget refers to it, so it has no effect"]
    }
    split = build_split("s", "web", {"web-v2": 1}, ["api"])
    assert "HTTPRouteGroup api" not in report(WEB, SERVER, CALLER, GROUP, split, build_service("web-v2"))


def test_targets_of_a_namespace_that_is_left_alone_are_not_reported(report):
    target = build_target("t", "ghost", ["spirit"], namespace="kube-system")
    assert report(WEB, SERVER, target, build_object("Namespace", "kube-system", namespace="")) == {}
