"""Why a port has no server, for each source of endpoints."""

import pytest

from maesh_core.controller.resources.kinds import CORE_KINDS, SERVICE_NAME_LABEL
from maesh_core.controller.resources.snapshot import Snapshot
from maesh_core.controller.topology.absence import SHOWN_LIMIT, Absence, describe_selector
from maesh_core.controller.topology.builder import build_service_node
from maesh_core.controller.topology.rules import TopologyRules
from maesh_core.model.events import Replaced
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import (
    Container,
    ContainerPort,
    Endpoint,
    EndpointAddress,
    EndpointConditions,
    EndpointPort,
    Endpoints,
    EndpointSlice,
    EndpointSubset,
    ObjectMeta,
    ObjectReference,
    Pod,
    PodCondition,
    PodSpec,
    PodStatus,
    Service,
    ServicePort,
    ServiceSpec,
)


def make_service(selector=True, target=8080, name=""):
    return Service(
        metadata=ObjectMeta(name="web", namespace="shop"),
        spec=ServiceSpec(
            selector={"app": "web", "tier": "x"} if selector else {},
            ports=(ServicePort(port=80, name=name, target_port=target),),
        ),
    )


def make_pod(name, ip="10.0.0.1", ready=True, phase="Running", *, app="web", ending=False, mesh_label=None):
    labels = {"app": mesh_label or app, "tier": "x"}
    return Pod(
        metadata=ObjectMeta(
            name=name,
            namespace="shop",
            labels=labels,
            deletion_timestamp="2026-01-01T00:00:00Z" if ending else None,
        ),
        spec=PodSpec(containers=(Container(ports=(ContainerPort(container_port=8080, name="http"),)),)),
        status=PodStatus(
            pod_ip=ip, phase=phase, conditions=(PodCondition(type="Ready", status="True" if ready else "False"),)
        ),
    )


def make_slice(*endpoints, port_name="", address_type="IPv4"):
    return EndpointSlice(
        metadata=ObjectMeta(name="web-1", namespace="shop", labels={SERVICE_NAME_LABEL: "web"}),
        address_type=address_type,
        endpoints=endpoints,
        ports=(EndpointPort(name=port_name, port=8080),),
    )


def explain(*resources, is_cluster=False):
    snapshot = Snapshot(CORE_KINDS)
    for kind in CORE_KINDS:
        snapshot.apply([Replaced(kind.type, [each for each in resources if type(each) is kind.type])], source="t")
    rules = TopologyRules(is_pod_fallback=not is_cluster)
    node = build_service_node(snapshot.view(), ObjectKey("shop", "web"), rules=rules)
    (port,) = node.ports
    assert bool(port.servers) is not bool(port.unserved)
    return port.unserved


def refer(name, **conditions):
    reference = ObjectReference(kind="Pod", namespace="shop", name=name)
    return Endpoint(addresses=("10.0.0.1",), conditions=EndpointConditions(**conditions), target_ref=reference)


@pytest.mark.parametrize(
    ("pods", "said"),
    [
        ([], "its selector app=web,tier=x matches no pod"),
        ([make_pod("a", app="wbe")], "its selector app=web,tier=x matches no pod"),
        ([make_pod("a", ready=False), make_pod("b", ready=False)], "not ready: a, b"),
        ([make_pod("a", ip="")], "pods without an address: a"),
        ([make_pod("a", ending=True)], "terminating: a"),
        ([make_pod("a", phase="Failed")], "pods that have ended: a"),
        (
            [make_pod("a", ready=False), make_pod("b", ip=""), make_pod("c", ready=False)],
            "not ready: a, c; pods without an address: b",
        ),
        ([make_pod("a", ip="10.0.0")], "no IP address: '10.0.0'"),
        ([make_pod("a")], ""),
        ([make_pod("a"), make_pod("b", ready=False)], ""),
    ],
)
def test_pods_of_manifests_that_cannot_serve_are_named_with_the_reason(pods, said):
    assert explain(make_service(), *pods) == said


@pytest.mark.parametrize(
    ("endpoints", "said"),
    [
        ([], "its selector app=web,tier=x matches no pod with an address"),
        ([refer("a", ready=False)], "not ready: a"),
        ([refer("a", ready=False, terminating=True)], "terminating: a"),
        ([Endpoint(addresses=("10.0.0.1",), conditions=EndpointConditions(ready=False))], "not ready: 10.0.0.1"),
        ([refer("a", ready=True)], ""),
    ],
)
def test_endpoints_of_slices_that_cannot_serve_are_named_with_the_reason(endpoints, said):
    assert explain(make_service(), make_slice(*endpoints), is_cluster=True) == said


def test_a_service_without_selector_needs_an_endpoint_slice_with_an_endpoint():
    assert explain(make_service(selector=False)) == "it has no selector and no EndpointSlice"
    assert explain(make_service(selector=False), make_slice()) == "its EndpointSlices have no endpoint"


def test_a_cluster_that_has_not_written_slices_yet():
    assert explain(make_service(), make_pod("a"), is_cluster=True) == "it has no EndpointSlice yet"


def test_endpoints_without_a_ready_address_or_the_port_are_the_reason():
    empty = Endpoints(metadata=ObjectMeta(name="web", namespace="shop"))
    assert explain(make_service(), empty) == "its Endpoints have no address that is ready"
    subset = EndpointSubset(addresses=(EndpointAddress(ip="10.0.0.1"),), ports=(EndpointPort(name="x", port=1),))
    named = Endpoints(metadata=ObjectMeta(name="web", namespace="shop"), subsets=(subset,))
    assert explain(make_service(name="http"), named) == "no TCP port of its endpoints is named 'http'"


def test_names_in_place_of_addresses():
    found = explain(make_service(), make_slice(Endpoint(addresses=("example.org",)), address_type="FQDN"))
    assert found == "names in place of addresses (FQDN): EndpointSlice web-1@shop"


def test_a_target_port_that_no_pod_has_is_the_reason():
    assert explain(make_service(target="grpc"), make_pod("a")) == "none of its pods has a TCP port named 'grpc'"
    assert explain(make_service(target="http"), make_pod("a")) == ""
    assert explain(make_service(target=99999), make_pod("a")) == "target port 99999 is not a valid port"
    found = explain(make_service(name="http"), make_slice(refer("a", ready=True), port_name="web"))
    assert found == "no TCP port of its endpoints is named 'http'"


def test_pods_that_the_mesh_leaves_alone():
    pod = make_pod("a")
    service = make_service()
    metadata = ObjectMeta(name="a", namespace="shop", labels={"app": "maesh", "tier": "x"})
    lone = Pod(metadata=metadata, spec=pod.spec, status=pod.status)
    found = explain(
        Service(
            metadata=service.metadata,
            spec=ServiceSpec(selector={"app": "maesh"}, ports=service.spec.ports),
        ),
        lone,
    )
    assert found == "ignored by the mesh: a"


def test_long_lists_of_names_are_cut():
    absence = Absence()
    for number in range(SHOWN_LIMIT + 4):
        absence.note("not ready", f"web-{number}")
    assert absence.explain() == "not ready: web-0, web-1, web-2 and 4 more"


def test_a_selector_is_written_as_kubectl_takes_it():
    assert describe_selector({"b": "2", "a": "1"}) == "a=1,b=2"
    assert describe_selector({}) == ""
