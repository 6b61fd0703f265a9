"""Shadow services: how they are built, and how existing ones are read; model/shadow_names.py names them.

A shadow service is a Service in the mesh's namespace with the ports of a user's service; it selects the proxies. Its
target ports are entrypoints, so it also stores the mapping of entrypoints. Its ports have no `appProtocol`: that of the
user's service describes the servers, not the proxies. Pure: only the leader writes them (shadow_keeper.py), with the
permissions in charts/maesh/templates/_rules.tpl.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from maesh_core.controller.configuration.ranges import list_exclusive_ranges
from maesh_core.model.events import Applied, Deleted, Event, Replaced
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Service
from maesh_core.model.shadow_names import LABELS, NAME_ANNOTATION, NAMESPACE_ANNOTATION, build_name, find_original
from maesh_core.plugin_system.protocols import TrafficType

SELECTOR = {"component": "maesh-mesh"}
DISTRIBUTIONS: tuple[str | None, ...] = ("PreferSameNode", "PreferClose", None)
"""Values of `trafficDistribution` that prefer the proxy of the client's node, best first: Kubernetes 1.34 and later,
1.30 and later, before."""

Written = Mapping[str, Mapping[int, int]]
"""By range: service port number to entrypoint."""


class ShadowPort(msgspec.Struct, frozen=True):
    """A port of a shadow service; `target` is the entrypoint."""

    number: int
    name: str
    protocol: str
    target: int


class UndecidedShadowError(Exception):
    """The traffic type of a service is not supported, so its shadow service must stay as it is."""


class DesiredShadowService(msgspec.Struct, frozen=True, kw_only=True):
    """The shadow service that a user's service should have."""

    service: ObjectKey
    ports: tuple[ShadowPort, ...]
    ip_families: tuple[str, ...] = ()
    ip_family_policy: str = ""


def build_object(desired: DesiredShadowService, mesh_namespace: str, distribution: str | None) -> dict[str, Any]:
    """Build the Service to create."""
    spec: dict[str, Any] = {"type": "ClusterIP", "selector": SELECTOR, "ports": _build_ports(desired.ports)}
    if desired.ip_families:
        spec["ipFamilies"] = list(desired.ip_families)
    if desired.ip_family_policy:
        spec["ipFamilyPolicy"] = desired.ip_family_policy
    if distribution is not None:
        spec["trafficDistribution"] = distribution
    metadata = {
        "name": build_name(mesh_namespace, desired.service),
        "namespace": mesh_namespace,
        "labels": LABELS,
        "annotations": {NAME_ANNOTATION: desired.service.name, NAMESPACE_ANNOTATION: desired.service.namespace},
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def merge_object(current: Mapping[str, Any], desired: Mapping[str, Any]) -> dict[str, Any]:
    """Build the Service that replaces an existing one: the mesh's fields are replaced, fields of others are kept."""
    metadata = {**current["metadata"]}
    for field in ("labels", "annotations"):
        metadata[field] = {**(metadata.get(field) or {}), **desired["metadata"][field]}
    return {**current, "metadata": metadata, "spec": {**current.get("spec", {}), **desired["spec"]}}


def is_up_to_date(service: Service, desired: DesiredShadowService, distribution: str | None) -> bool:
    """Whether a shadow service needs no change."""
    spec = service.spec
    ports = tuple(
        ShadowPort(port.port, port.name, port.protocol, _read_target(port.target_port)) for port in spec.ports
    )
    annotations = service.metadata.annotations
    return (
        sorted(ports, key=_sort_key) == sorted(desired.ports, key=_sort_key)
        and spec.selector == SELECTOR
        and spec.type == "ClusterIP"
        and (distribution is None or spec.traffic_distribution == distribution)
        and not must_recreate(service, desired)
        and (not desired.ip_families or tuple(spec.ip_families) == desired.ip_families)
        and annotations.get(NAME_ANNOTATION) == desired.service.name
        and annotations.get(NAMESPACE_ANNOTATION) == desired.service.namespace
    )


def must_recreate(service: Service, desired: DesiredShadowService) -> bool:
    """Whether a shadow service must be deleted and created again, because its first IP family cannot be changed."""
    return (
        bool(desired.ip_families and service.spec.ip_families) and service.spec.ip_families[0] != desired.ip_families[0]
    )


class ShadowReader:
    """Finds shadow services in the events of Services, and remembers which service each belongs to."""

    __slots__ = ("_known", "_mesh_namespace", "_ranges")

    def __init__(self, mesh_namespace: str, traffic_types: Sequence[TrafficType]) -> None:
        self._mesh_namespace = mesh_namespace
        self._ranges = list_exclusive_ranges(traffic_types)
        self._known: dict[ObjectKey, ObjectKey] = {}

    def __repr__(self) -> str:
        return f"<ShadowReader {len(self._known)} shadow services>"

    def list_originals(self) -> list[ObjectKey]:
        """List every service that has a shadow service."""
        return sorted(self._known.values())

    def read(self, events: Iterable[Event]) -> dict[ObjectKey, Written]:
        """Return the mapping of each concerned user's service; it is empty if the shadow service is gone."""
        found: dict[ObjectKey, Written] = {}
        for event in events:
            if isinstance(event, Applied) and isinstance(event.resource, Service):
                self._read_one(event.resource, found)
            elif isinstance(event, Deleted) and event.type is Service:
                self._forget(event.key, found)
            elif isinstance(event, Replaced) and event.type is Service:
                listed = {resource.key for resource in event.resources}
                for key in self._known.keys() - listed:
                    self._forget(key, found)
                for resource in event.resources:
                    self._read_one(resource, found)
        return found

    def _read_one(self, service: Any, found: dict[ObjectKey, Written]) -> None:
        if service.metadata.namespace != self._mesh_namespace:
            return
        original = find_original(service, self._mesh_namespace)
        if self._known.get(service.key) not in (None, original):
            self._forget(service.key, found)
        if original is not None:
            self._known[service.key] = original
            found[original] = self._parse_ports(service)

    def _forget(self, key: ObjectKey, found: dict[ObjectKey, Written]) -> None:
        original = self._known.pop(key, None)
        if original is not None:
            found[original] = {}

    def _parse_ports(self, service: Service) -> Written:
        written: dict[str, dict[int, int]] = {}
        for port in service.spec.ports:
            target = _read_target(port.target_port)
            for name, transport, port_range in self._ranges:
                first, limit = port_range.first, port_range.limit
                if transport == port.protocol and first <= target < first + limit:
                    written.setdefault(name, {})[port.port] = target
        return written


def _build_ports(ports: Iterable[ShadowPort]) -> list[dict[str, Any]]:
    return [
        {
            **({"name": port.name} if port.name else {}),
            "port": port.number,
            "protocol": port.protocol,
            "targetPort": port.target,
        }
        for port in ports
    ]


def _read_target(target: int | str | None) -> int:
    return target if isinstance(target, int) else 0


def _sort_key(port: ShadowPort) -> tuple[int, str]:
    return port.number, port.protocol
