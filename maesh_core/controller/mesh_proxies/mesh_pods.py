"""Finds the pods of the mesh itself in the cluster: the other controllers, and the addresses of the proxies.

Reads the EndpointSlices of the services that the chart creates for both; only the cluster's API server writes them.
Pods that are not ready are included: a controller without contact with the cluster still knows its proxies. Those that
are being stopped are not: their proxies pull from another controller at once. Does no I/O.
"""

from collections.abc import Iterator, Sequence
from typing import Final, Protocol

import msgspec

from maesh_core.controller.resources.kinds import SERVICE_INDEX
from maesh_core.model.addresses import parse_address
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Endpoint, EndpointSlice

CONTROLLER_SERVICE: Final = "maesh-controller"
"""Name of the service of the controllers, in the mesh's namespace (charts/maesh/templates/controller/service.yaml)."""
PROXY_SERVICE: Final = "maesh-mesh-api"
"""Name of the service of the proxies' admin ports (charts/maesh/templates/mesh/service.yaml)."""


class Peer(msgspec.Struct, frozen=True):
    """Another controller: the name of its pod, and the address of its API."""

    name: str
    ip: str
    port: int


class Slices(Protocol):
    """The source of EndpointSlices: a snapshot."""

    def find(  # noqa: D102
        self, type_: type[EndpointSlice], index: str, value: str | ObjectKey
    ) -> Sequence[EndpointSlice]: ...


class MeshPods:
    """The pods of the mesh in one namespace. `own_name` is the pod of this controller, which is no peer."""

    __slots__ = ("_namespace", "_own_name", "_slices")

    def __init__(self, slices: Slices, *, namespace: str, own_name: str) -> None:
        self._slices = slices
        self._namespace = namespace
        self._own_name = own_name

    def __repr__(self) -> str:
        return f"<MeshPods of {self._namespace}>"

    def list_peers(self) -> list[Peer]:
        """List the other controllers, sorted by name."""
        found: dict[str, Peer] = {}
        for endpoint, address, port in self._list_endpoints(CONTROLLER_SERVICE):
            if endpoint.conditions.terminating:
                continue
            name = endpoint.target_ref.name if endpoint.target_ref is not None else address
            if port is not None and name != self._own_name:
                found.setdefault(name, Peer(name, address, port))
        return [found[name] for name in sorted(found)]

    def list_proxy_addresses(self) -> frozenset[str]:
        """List the addresses of the chart's proxies, in canonical form."""
        return frozenset(address for _, address, _ in self._list_endpoints(PROXY_SERVICE))

    def _list_endpoints(self, service: str) -> Iterator[tuple[Endpoint, str, int | None]]:
        for each in self._slices.find(EndpointSlice, SERVICE_INDEX, ObjectKey(self._namespace, service)):
            port = next((port.port for port in each.ports if port.port is not None), None)
            for endpoint in each.endpoints:
                address = parse_address(endpoint.addresses[0]) if endpoint.addresses else None
                if address is not None:
                    yield endpoint, address, port
