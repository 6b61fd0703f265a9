"""The controllers and proxies that the cluster's EndpointSlices name."""

from pathlib import Path
from typing import Any

from maesh_core.controller.mesh_proxies.mesh_pods import CONTROLLER_SERVICE, PROXY_SERVICE, MeshPods, Peer
from maesh_core.controller.resources.kinds import CORE_KINDS, SERVICE_NAME_LABEL
from maesh_core.controller.resources.snapshot import Snapshot
from maesh_core.model.events import Replaced
from maesh_core.model.resources import (
    Endpoint,
    EndpointConditions,
    EndpointPort,
    EndpointSlice,
    ObjectMeta,
    ObjectReference,
)

CHART = Path(__file__).resolve().parents[3] / "charts" / "maesh" / "templates"


def build_slice(service: str, *endpoints: tuple[str, str], port: int | None = 9000, **more: Any) -> EndpointSlice:
    return EndpointSlice(
        metadata=ObjectMeta(
            name=f"{service}-{len(endpoints)}-{more.get('name', '')}",
            namespace=more.get("namespace", "maesh"),
            labels={SERVICE_NAME_LABEL: service},
        ),
        endpoints=tuple(
            Endpoint(
                addresses=(address,),
                conditions=EndpointConditions(ready=more.get("ready", True), terminating=more.get("terminating")),
                target_ref=ObjectReference(kind="Pod", name=name) if name else None,
            )
            for name, address in endpoints
        ),
        ports=(EndpointPort(name="api", port=port),),
    )


def build_pods(*slices: EndpointSlice, own_name: str = "maesh-controller-a") -> MeshPods:
    snapshot = Snapshot(CORE_KINDS)
    snapshot.apply([Replaced(EndpointSlice, slices)], source="test")
    return MeshPods(snapshot, namespace="maesh", own_name=own_name)


def test_the_other_controllers_are_the_endpoints_of_their_service_without_this_one() -> None:
    pods = build_pods(
        build_slice(
            CONTROLLER_SERVICE,
            ("maesh-controller-c", "10.0.0.3"),
            ("maesh-controller-a", "10.0.0.1"),
            ("maesh-controller-b", "10.0.0.2"),
            ready=False,
        ),
        build_slice(CONTROLLER_SERVICE, ("elsewhere", "10.0.0.4"), namespace="shop"),
        build_slice("web", ("web-0", "10.0.0.5")),
    )
    assert pods.list_peers() == [
        Peer("maesh-controller-b", "10.0.0.2", 9000),
        Peer("maesh-controller-c", "10.0.0.3", 9000),
    ]


def test_a_controller_with_addresses_of_two_families_is_one() -> None:
    pods = build_pods(
        build_slice(CONTROLLER_SERVICE, ("b", "10.0.0.2")), build_slice(CONTROLLER_SERVICE, ("b", "fd00::2"), name="6")
    )
    assert len(pods.list_peers()) == 1


def test_a_controller_that_is_being_stopped_is_not_asked_but_a_proxy_is() -> None:
    pods = build_pods(
        build_slice(CONTROLLER_SERVICE, ("b", "10.0.0.2"), ready=False, terminating=True),
        build_slice(PROXY_SERVICE, ("x", "10.0.1.1"), ready=False, terminating=True),
    )
    assert pods.list_peers() == []
    assert pods.list_proxy_addresses() == {"10.0.1.1"}


def test_an_endpoint_without_pod_port_or_valid_address_is_no_surprise() -> None:
    pods = build_pods(
        build_slice(CONTROLLER_SERVICE, ("", "10.0.0.2"), name="1"),
        build_slice(CONTROLLER_SERVICE, ("b", "controller.example"), name="2"),
        build_slice(CONTROLLER_SERVICE, ("c", "10.0.0.3"), port=None, name="3"),
        build_slice(CONTROLLER_SERVICE, name="4"),
    )
    assert pods.list_peers() == [Peer("10.0.0.2", "10.0.0.2", 9000)]


def test_the_addresses_of_the_proxies_are_those_of_their_service() -> None:
    pods = build_pods(build_slice(PROXY_SERVICE, ("x", "10.0.1.1"), ("y", "FD00::0001"), port=8080))
    assert pods.list_proxy_addresses() == {"10.0.1.1", "fd00::1"}


def test_without_services_of_the_chart_there_are_none() -> None:
    assert (build_pods().list_peers(), build_pods().list_proxy_addresses()) == ([], frozenset())


def test_the_chart_has_the_services() -> None:
    assert f"  name: {CONTROLLER_SERVICE}\n" in (CHART / "controller" / "service.yaml").read_text()
    assert f"  name: {PROXY_SERVICE}\n" in (CHART / "mesh" / "service.yaml").read_text()
