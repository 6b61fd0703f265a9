"""The document of `/api/topology/current`. What cases give: tests/data/mesh."""

import json
from typing import Any

import msgspec
import pytest

from maesh_core.controller.topology.rendering import render_topology
from maesh_core.model.keys import ObjectKey
from maesh_core.model.topology import PodNode, PortNode, ServerNode, ServiceNode

KEY = ObjectKey("shop", "cart")
POD = PodNode(key=ObjectKey("shop", "cart-a"), service_account="cart", address="10.0.0.1", owners=("ReplicaSet/cart",))
SERVER = ServerNode(address="10.0.0.1", port=8080, pod=POD.key)
NODE = ServiceNode(
    key=KEY,
    traffic_type="http",
    cluster_ips=("10.96.0.1",),
    ports=(PortNode(number=80, name="web", target_port="http", servers=(SERVER,)),),
    pods=(POD,),
    errors=("own error",),
)


class Target(msgspec.Struct, frozen=True):
    name: str
    sources: frozenset[str]


def test_a_topology_of_nothing_has_its_sections() -> None:
    assert render_topology([]) == {"services": {}, "pods": {}, "serviceTrafficTargets": {}, "trafficSplits": {}}


def test_services_and_pods_are_keyed_by_name_and_namespace() -> None:
    document = render_topology([NODE])
    assert list(document["services"]) == ["cart@shop"]
    assert list(document["pods"]) == ["cart-a@shop"]
    assert document["services"]["cart@shop"]["pods"] == ["cart-a@shop"]
    assert document["services"]["cart@shop"]["ports"][0]["servers"] == [
        {"address": "10.0.0.1", "port": 8080, "pod": "cart-a@shop"}
    ]


def test_a_port_shows_its_app_protocol_if_it_has_one() -> None:
    port = PortNode(number=80, app_protocol="kubernetes.io/h2c")
    ports = render_topology([msgspec.structs.replace(NODE, ports=(*NODE.ports, port))])["services"]["cart@shop"][
        "ports"
    ]
    assert "appProtocol" not in ports[0]
    assert ports[1]["appProtocol"] == "kubernetes.io/h2c"


def test_what_a_plugin_found_stands_under_its_name_as_plain_values() -> None:
    node = msgspec.structs.replace(NODE, additions={"acl": {80: [Target("all", frozenset({"a"}))]}})
    found = render_topology([node])["services"]["cart@shop"]["additions"]
    assert found == {"acl": {"80": [{"name": "all", "sources": ["a"]}]}}


@pytest.mark.parametrize("value", [object(), {KEY: 1}, {"value": 1j}])
def test_what_a_plugin_found_cannot_break_the_document(value: Any) -> None:
    nodes = [msgspec.structs.replace(NODE, additions={"broken": value}), ServiceNode(key=POD.key, traffic_type=None)]
    services = json.loads(json.dumps(render_topology(nodes)))["services"]
    assert list(services) == ["cart@shop", "cart-a@shop"]
    assert services["cart@shop"]["additions"]["broken"].startswith("cannot be shown: ")


def test_what_the_configuration_found_stands_in_for_the_nodes_own() -> None:
    document = render_topology([NODE], errors={KEY: ("own error", "later error")}, notices={KEY: ("odd",)})
    assert document["services"]["cart@shop"]["errors"] == ["own error", "later error"]
    assert document["services"]["cart@shop"]["notices"] == ["odd"]
    assert render_topology([NODE])["services"]["cart@shop"]["errors"] == ["own error"]


def test_headless_and_unnumbered_services_are_distinguished() -> None:
    headless = msgspec.structs.replace(NODE, cluster_ips=(), is_headless=True)
    unnumbered = msgspec.structs.replace(NODE, cluster_ips=())
    shown = [render_topology([node])["services"]["cart@shop"]["clusterIp"] for node in (NODE, headless, unnumbered)]
    assert shown == ["10.96.0.1", "None", ""]


def test_the_order_of_nodes_changes_nothing() -> None:
    nodes = [msgspec.structs.replace(NODE, key=ObjectKey(namespace, "x")) for namespace in "cab"]
    assert json.dumps(render_topology(nodes)) == json.dumps(render_topology(reversed(nodes)))
