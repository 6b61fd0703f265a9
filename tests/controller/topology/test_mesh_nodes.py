"""Which pods make a node of the mesh, and in which order."""

import pytest

from maesh_core.controller.resources.kinds import CORE_KINDS, TUNNEL_LABEL
from maesh_core.controller.resources.snapshot import Snapshot
from maesh_core.controller.topology.mesh_nodes import build_mesh_node, list_mesh_nodes
from maesh_core.model.events import Applied
from maesh_core.model.resources import ObjectMeta, Pod, PodCondition, PodSpec, PodStatus

READY, NOT_READY = (PodCondition(type="Ready", status=status) for status in ("True", "False"))


def build_pod(name, *, ip="10.0.0.1", node="n1", namespace="maesh", label="15008", ended=None, **status):
    return Pod(
        metadata=ObjectMeta(name=name, namespace=namespace, labels={TUNNEL_LABEL: label}, deletion_timestamp=ended),
        spec=PodSpec(node_name=node),
        status=PodStatus(pod_ip=ip, **status),
    )


def build(*pods):
    snapshot = Snapshot(CORE_KINDS)
    snapshot.apply([Applied(pod) for pod in pods], source="s")
    found = {name: build_mesh_node(snapshot, "maesh", name) for name in list_mesh_nodes(snapshot, "maesh")}
    return {name: [pod.key.name for pod in node.proxies] for name, node in found.items() if node is not None}


def test_pods_are_listed_by_node():
    assert build(build_pod("a"), build_pod("b", node="n2"), build_pod("c")) == {"n1": ["a", "c"], "n2": ["b"]}


@pytest.mark.parametrize(
    "pod",
    [
        build_pod("a", ip=""),
        build_pod("a", ip="nonsense"),
        build_pod("a", node=""),
        build_pod("a", node="two words"),
        build_pod("a", namespace="shop"),
        build_pod("a", label=""),
        build_pod("a", phase="Succeeded"),
        build_pod("a", ended="2026-01-01T00:00:00Z"),
    ],
)
def test_a_pod_that_accepts_nothing_is_left_out(pod):
    assert build(pod) == {}


def test_ready_pods_are_first_and_the_newest_of_them_before_older_ones():
    pods = [
        build_pod("a", start_time="2026-01-01T00:00:00Z", conditions=(READY,)),
        build_pod("b", start_time="2026-01-02T00:00:00Z", conditions=(READY,)),
        build_pod("c", start_time="2026-01-03T00:00:00Z", conditions=(NOT_READY,)),
        build_pod("d", start_time="2026-01-04T00:00:00Z", conditions=(NOT_READY,)),
    ]
    assert build(*pods) == {"n1": ["b", "a", "d", "c"]}
