"""The names of pods by address."""

from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.controller.resources.snapshot import Snapshot
from maesh_core.controller.topology.pod_addresses import find_pod_names, list_addresses
from maesh_core.model.events import Applied
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import ObjectMeta, Pod, PodAddress, PodSpec, PodStatus


def build_pod(name, *ips, phase="Running", host_network=False):
    return Pod(
        metadata=ObjectMeta(name=name, namespace="n"),
        spec=PodSpec(host_network=host_network),
        status=PodStatus(pod_ip=ips[0] if ips else "", pod_ips=tuple(map(PodAddress, ips)), phase=phase),
    )


def build_snapshot(*pods):
    snapshot = Snapshot(CORE_KINDS)
    snapshot.apply([Applied(each) for each in pods], source="s")
    return snapshot


def test_each_address_of_a_pod_has_its_name():
    snapshot = build_snapshot(build_pod("p", "10.0.0.1", "2001:DB8::1"), build_pod("q"))
    addresses = list_addresses(snapshot, snapshot.keys(Pod))
    assert addresses == ["10.0.0.1", "2001:db8::1"]
    assert find_pod_names(snapshot, addresses) == {"10.0.0.1": "n/p", "2001:db8::1": "n/p"}


def test_what_identifies_no_pod_has_an_empty_name():
    snapshot = build_snapshot(
        build_pod("agent", "10.0.0.1", host_network=True),
        build_pod("a", "10.0.0.2"),
        build_pod("b", "10.0.0.2"),
        build_pod("done", "10.0.0.3", phase="Succeeded"),
    )
    addresses = list_addresses(snapshot, [*snapshot.keys(Pod), ObjectKey("n", "gone")])
    assert find_pod_names(snapshot, addresses) == dict.fromkeys(["10.0.0.1", "10.0.0.2", "10.0.0.3"], "")


def test_a_pod_that_has_ended_leaves_its_address_to_another_one():
    snapshot = build_snapshot(build_pod("done", "10.0.0.1", phase="Failed"), build_pod("next", "10.0.0.1"))
    assert find_pod_names(snapshot, ["10.0.0.1"]) == {"10.0.0.1": "n/next"}
