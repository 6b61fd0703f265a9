"""What a transport needs to know about a service."""

import pytest

from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.controller.resources.snapshot import Snapshot
from maesh_core.controller.topology.transport import add_transport
from maesh_core.model.events import Applied
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Namespace, ObjectMeta, Pod, PodAddress, PodSpec, PodStatus
from maesh_core.model.topology import BackendNode, BranchNode, PodNode, PortNode, ServiceNode
from maesh_core.model.transport import ClientEntry


def build_pod(name, *ips, node="n1", account="x", phase="", host_network=False):
    return Pod(
        metadata=ObjectMeta(name=name, namespace="n"),
        spec=PodSpec(node_name=node, service_account_name=account, host_network=host_network),
        status=PodStatus(pod_ip=ips[0], pod_ips=tuple(map(PodAddress, ips)), phase=phase),
    )


def add(*resources, ports=(), named=("p",)):
    snapshot = Snapshot(CORE_KINDS)
    snapshot.apply([Applied(each) for each in resources], source="s")
    pods = tuple(PodNode(key=ObjectKey("n", name), service_account="x", address="") for name in named)
    node = ServiceNode(key=ObjectKey("n", "a"), traffic_type="http", named_pods=pods, ports=ports)
    return add_transport(snapshot, node)


def test_annotations_of_the_service_and_of_backends_namespaces_are_read_without_prefix():
    backend = BackendNode(service=ObjectKey("m", "b"), weight=1, port=PortNode(number=80))
    port = PortNode(number=80, branches=(BranchNode(name="s", backends=(backend,)),))
    annotations = {"mesh.traefik.io/encryption": "strict", "example.org/other": "x"}
    namespaces = [Namespace(metadata=ObjectMeta(name=name, annotations=annotations)) for name in ("n", "m", "z")]
    expected = {"encryption": "strict"}
    assert add(*namespaces, ports=(port,)).namespace_annotations == {"m": expected, "n": expected}
    assert add().namespace_annotations == {}


def test_every_address_of_a_named_pod_is_a_client():
    entry = ClientEntry(node="n1", account="x@n")
    assert add(build_pod("p", "10.0.0.1", "2001:DB8::1")).clients == {"10.0.0.1": entry, "2001:db8::1": entry}


def test_an_address_of_two_pods_of_one_account_and_node_is_a_client():
    pods = (build_pod("p", "10.0.0.1"), build_pod("q", "10.0.0.1"))
    assert list(add(*pods).clients) == ["10.0.0.1"]


@pytest.mark.parametrize(
    "pods",
    [
        (),
        (build_pod("q", "10.0.0.1"),),
        (build_pod("p", "10.0.0.1", node=""),),
        (build_pod("p", "10.0.0.1", node="NO NODE"),),
        (build_pod("p", "10.0.0.1", host_network=True),),
        (build_pod("p", "10.0.0.1", phase="Failed"),),
        (build_pod("p", "10.0.0.1"), build_pod("q", "10.0.0.1", account="y")),
        (build_pod("p", "10.0.0.1"), build_pod("q", "10.0.0.1", node="n2")),
    ],
)
def test_an_address_that_does_not_identify_a_named_pod_is_no_client(pods):
    assert add(*pods).clients == {}
