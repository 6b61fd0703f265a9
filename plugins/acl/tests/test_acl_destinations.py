"""Servers outside of the mesh have the account that an annotation of their Service names."""

import pytest
from maesh_acl.granting.checking import TargetChecker
from maesh_acl.granting.destinations import find_outside_account, group_servers
from maesh_acl.kinds import TrafficTarget

from maesh_core.controller.topology.rules import TopologyRules
from maesh_core.model.findings import Findings
from maesh_core.model.keys import ObjectKey
from maesh_core.model.topology import PodNode, PortNode, ServerNode, ServiceNode

from .conftest import Cluster, build_object, build_pod, build_route, build_split, build_target
from .test_acl_explaining import explain

CLIENT, STRANGER = "10.0.0.1", "10.0.0.2"
PODS = (build_pod("client", CLIENT, "caller"), build_pod("stranger", STRANGER, "other"))
NAME = "api.example.com"


class AllowAll:
    name = "egress"

    def find_problem(self, service, host):
        return None


@pytest.fixture
def cluster(monkeypatch):
    """Build a cluster that carries every name."""
    monkeypatch.setattr("plugins.acl.tests.conftest.TopologyRules", lambda: TopologyRules(outside=AllowAll()))
    return Cluster


def build_external(account="partner", *, kind="", name="api"):
    found = build_object("Service", name, spec={"type": "ExternalName", "externalName": NAME, "ports": [{"port": 80}]})
    values = {"service-account": account, "traffic-type": kind}
    found["metadata"]["annotations"] = {f"maesh.containo.us/{key}": value for key, value in values.items() if value}
    return found


def test_a_target_opens_outside_servers_to_its_sources(cluster):
    found = cluster(*PODS, build_external(), build_target("t", "partner", ["caller"]))
    assert found.ask(CLIENT, "api") == (200, None)
    assert found.ask(STRANGER, "api") == (403, None)


def test_without_the_annotation_nobody_reaches_outside_servers_and_a_notice_says_so(cluster):
    found = cluster(*PODS, build_external(""), build_target("t", "default", ["caller"]))
    assert found.ask(CLIENT, "api") == (403, None)
    assert any("service-account" in notice for notice in found.build_node("api").notices)


def test_a_target_of_another_account_opens_nothing(cluster):
    found = cluster(*PODS, build_external(), build_target("t", "other", ["caller"]))
    assert found.ask(CLIENT, "api") == (403, None)


def test_tcp_connections_need_a_route_of_their_kind(cluster):
    service = build_external(kind="tcp")
    target = build_target("t", "partner", ["caller"], [("TCPRoute", "any")])
    assert cluster(*PODS, service, target, build_route("TCPRoute", "any")).connect(CLIENT, "api") == (True, None)
    assert cluster(*PODS, service, build_target("t", "partner", ["caller"])).connect(CLIENT, "api")[0] is False


def test_the_annotation_of_a_tcp_service_is_no_mistake(cluster):
    found = cluster(*PODS, build_external(kind="tcp"), build_target("t", "partner", ["caller"]))
    assert not any("no effect" in notice for notice in found.build_node("api").notices)


def test_a_port_of_the_destination_is_that_of_the_outside_server(cluster):
    assert cluster(*PODS, build_external(), build_target("t", "partner", ["caller"], port=80)).ask(CLIENT, "api") == (
        200,
        None,
    )
    assert cluster(*PODS, build_external(), build_target("t", "partner", ["caller"], port=81)).ask(CLIENT, "api") == (
        403,
        None,
    )


def test_an_outside_server_can_be_a_backend(cluster):
    root = build_object("Service", "root", spec={"ports": [{"port": 80}]})
    split = build_split("s", "root", {"api": 1})
    found = cluster(*PODS, root, build_external(), split, build_target("t", "partner", ["caller"]))
    assert found.ask(CLIENT, "root") == (200, None)
    assert found.ask(STRANGER, "root") == (403, None)


def test_a_target_of_an_outside_server_needs_no_pod_and_is_not_reported(cluster):
    found = cluster(*PODS, build_external(), build_target("t", "partner", ["caller"]))
    node, view = found.build_node("api"), found.snapshot.view()
    (target,) = [each.key for each in node.objects if each.type is TrafficTarget]
    assert TargetChecker().check(view, view.get(TrafficTarget, target), [node.key]) == Findings()
    assert TargetChecker().check(view, view.get(TrafficTarget, target), []) == Findings(
        notices=("no pod has its destination's service account partner@shop, so it grants nothing",)
    )


def test_explain_says_what_outside_servers_need(cluster):
    asked = {"client": CLIENT, "service": "api.shop"}
    found = explain((*PODS, build_external("")), "api", **asked)
    assert found.status == 403
    assert any("no annotation service-account" in step for step in found.steps)
    found = explain((*PODS, build_external(), build_target("t", "partner", ["other"])), "api", **asked)
    assert found.status == 403
    assert not any("no ready pod" in step or "no annotation" in step for step in found.steps)
    found = explain((*PODS, build_external(), build_target("t", "partner", ["caller"])), "api", **asked)
    assert found.status == 200
    assert [each.servers for each in found.destinations] == [(f"{NAME}:80",)]


@pytest.mark.parametrize("account", ["No Name", "a/b", "x" * 300])
def test_an_invalid_account_closes_the_service(cluster, account):
    with pytest.raises(AssertionError, match="annotation service-account"):
        cluster(*PODS, build_external(account)).build_sections("api")


def test_servers_are_grouped_by_account():
    pod = PodNode(key=ObjectKey("shop", "web-1"), service_account="web", address="10.0.1.1")
    idle = PodNode(key=ObjectKey("shop", "job-1"), service_account="job", address="10.0.1.2")
    servers = (
        ServerNode(address="10.0.1.1", port=80, pod=pod.key),
        ServerNode(address="10.0.1.9", port=80),
        ServerNode(address=NAME, port=80, is_name=True),
    )
    node = ServiceNode(
        key=ObjectKey("shop", "web"), traffic_type="http", annotations={"service-account": "partner"}, pods=(pod, idle)
    )
    assert find_outside_account(node) == ObjectKey("shop", "partner")
    assert group_servers(node, PortNode(number=80, servers=servers)) == {
        ObjectKey("shop", "web"): [servers[0]],
        ObjectKey("shop", "job"): [],
        ObjectKey("shop", "partner"): [servers[2]],
    }
