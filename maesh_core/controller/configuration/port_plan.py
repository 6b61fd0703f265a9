"""Which ports of a service are served, as which traffic type, and on which entrypoints.

Takes a ServiceNode and the catalogue. Returns the groups of ports that are configured together, what the port table
must assign, and the entrypoint of each port. A group that cannot be configured has the reason. Builds no configuration.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from maesh_core.controller.configuration.annotation_values import wants_own_entrypoint
from maesh_core.controller.configuration.catalogue import Catalogue
from maesh_core.controller.configuration.ranges import Entrypoints, find_own_range, name_own_range
from maesh_core.errors import ConfigurationError
from maesh_core.model.annotations import (
    PREFIXES,
    TRAFFIC_TYPE,
    PortAnnotations,
    add_plain_names,
    parse_annotations,
    split_port_annotations,
)
from maesh_core.model.topology import PortNode, ServiceNode
from maesh_core.plugin_system.protocols import TrafficType


class PortGroup(NamedTuple):
    """Ports of one traffic type and with the same annotations: all that share the service's, or one with its own.

    `traffic_type` is None if no plugin supports it, or if the annotation is invalid; `type_name` is then its name, if
    there is one. `own_port` is the number of a port with annotations of its own, else 0. `problem` is an error in its
    annotations.
    """

    traffic_type: TrafficType | None
    type_name: str | None
    ports: tuple[PortNode, ...]
    annotations: Mapping[str, str]
    own_port: int = 0
    problem: str = ""

    @property
    def suitable(self) -> tuple[PortNode, ...]:
        """The ports with the protocol of the traffic type."""
        transport = self.traffic_type.transport if self.traffic_type is not None else ""
        return tuple(port for port in self.ports if port.protocol == transport)


class PlacedPort(NamedTuple):
    """A port with its entrypoints: the one that it shares with other services or has as a stream, and its own one.

    0 means that there is none.
    """

    port: PortNode
    entrypoint: int
    own_entrypoint: int = 0

    @property
    def target(self) -> int:
        """The entrypoint to which its clients connect."""
        return self.own_entrypoint or self.entrypoint


def list_groups(node: ServiceNode, catalogue: Catalogue) -> list[PortGroup]:
    """Group the ports of a service; a service without ports has one group."""
    annotations = split_port_annotations(parse_annotations(node.annotations))
    if not annotations.own and all(port.traffic_type is None for port in node.ports):
        return [_build_group(node.traffic_type, catalogue, node.ports, annotations.shared)]
    shared: dict[str | None, list[PortNode]] = {}
    single = []
    for port in node.ports:
        type_name = node.get_traffic_type(port)
        own, problem = _select(annotations, port)
        if own is None:
            shared.setdefault(type_name, []).append(port)
        else:
            group = _build_group(type_name, catalogue, (port,), own)
            single.append(group._replace(own_port=port.number, problem=problem))
    groups = [_build_group(name, catalogue, tuple(ports), annotations.shared) for name, ports in shared.items()]
    return [*groups, *single] or [_build_group(node.traffic_type, catalogue, (), annotations.shared)]


def _select(annotations: PortAnnotations, port: PortNode) -> tuple[Mapping[str, str] | None, str]:
    """Select the annotations of a port, None if it has none of its own; also return an error in them."""
    try:
        own = annotations.select(port)
    except ConfigurationError as error:
        return annotations.shared, str(error)
    # The traffic type is that of the group already.
    has_own = {**own, TRAFFIC_TYPE: ""} != {**annotations.shared, TRAFFIC_TYPE: ""}
    return (own if has_own else None), ""


def _build_group(
    type_name: str | None, catalogue: Catalogue, ports: tuple[PortNode, ...], annotations: Mapping[str, str]
) -> PortGroup:
    traffic_type = None if type_name is None else catalogue.traffic_types.get(type_name)
    return PortGroup(traffic_type, type_name, ports, annotations)


def show_group(node: ServiceNode, group: PortGroup) -> ServiceNode:
    """Show a group to plugins as a service: with its ports, its traffic type and its annotations."""
    if not group.own_port and group.type_name == node.traffic_type and len(group.ports) == len(node.ports):
        return msgspec.structs.replace(node, annotations=add_plain_names(node.annotations))
    return msgspec.structs.replace(
        node,
        annotations={
            **{name: value for name, value in add_plain_names(node.annotations).items() if "/" in name},
            **group.annotations,
        },
        traffic_type=group.type_name,
        ports=tuple(msgspec.structs.replace(port, traffic_type=None) for port in group.ports),
    )


def plan_ports(node: ServiceNode, catalogue: Catalogue) -> tuple[PortNode, ...]:
    """List the ports with the protocol of their traffic type, whether or not the service has errors.

    Each needs an entrypoint; if the traffic type's range is exclusive, the port table must assign it.
    """
    suitable = {(port.number, port.protocol) for group in list_groups(node, catalogue) for port in group.suitable}
    return tuple(port for port in node.ports if (port.number, port.protocol) in suitable)


def plan_claims(node: ServiceNode, catalogue: Catalogue) -> dict[str, tuple[int, ...]]:
    """List the numbers of the ports that need an exclusive entrypoint, by the name of its range."""
    return claim_entrypoints(node, list_groups(node, catalogue))


def claim_entrypoints(node: ServiceNode, groups: Sequence[PortGroup]) -> dict[str, tuple[int, ...]]:
    """List the same for the groups of a service; a headless one has none, as its clients connect to pods."""
    found: dict[str, tuple[int, ...]] = {}
    for group in () if node.is_headless else groups:
        name = _find_range_name(group)
        if name is not None and group.suitable:
            found[name] = (*found.get(name, ()), *(port.number for port in group.suitable))
    return found


def _find_range_name(group: PortGroup) -> str | None:
    """Name the exclusive range from which a group's ports have entrypoints; None if they only share some."""
    traffic_type = group.traffic_type
    if traffic_type is None:
        return None
    if traffic_type.port_range.is_exclusive:
        return traffic_type.name
    return name_own_range(traffic_type) if has_own_entrypoints(group) else None


def has_own_entrypoints(group: PortGroup) -> bool:
    """Whether a group's ports share entrypoints and want one of their own besides."""
    traffic_type = group.traffic_type
    if traffic_type is None or find_own_range(traffic_type) is None:
        return False
    return wants_own_entrypoint(group.annotations, is_default=getattr(traffic_type, "is_own_default", False))


def place_ports(group: PortGroup, entrypoints: Entrypoints) -> Iterator[PlacedPort]:
    """Find the entrypoints of a group's suitable ports: assigned ones, and the shared one of its index."""
    traffic_type = group.traffic_type
    if traffic_type is None:
        return
    own = entrypoints.get(name_own_range(traffic_type), {}) if has_own_entrypoints(group) else {}
    for port in group.suitable:
        entrypoint = find_entrypoint(traffic_type, port, entrypoints) or 0
        yield PlacedPort(port, entrypoint, own.get(port.number, 0))


def find_entrypoint(traffic_type: TrafficType, port: PortNode, entrypoints: Entrypoints) -> int | None:
    """Find the entrypoint of a port: the assigned one, or its index in a shared range."""
    port_range = traffic_type.port_range
    if port_range.is_exclusive:
        return entrypoints.get(traffic_type.name, {}).get(port.number)
    return port_range.first + port.index if port.index < port_range.limit else None


def plan_entrypoints(
    node: ServiceNode, catalogue: Catalogue, entrypoints: Entrypoints
) -> tuple[tuple[PortNode, int], ...]:
    """Pair the ports with the entrypoints to which clients connect, whether or not the service has errors."""
    places = [place for group in list_groups(node, catalogue) for place in place_ports(group, entrypoints)]
    found = {(place.port.number, place.port.protocol): place.target for place in places if place.target}
    return tuple((port, found[place]) for port in node.ports if (place := (port.number, port.protocol)) in found)


def find_unsupported_types(groups: Sequence[PortGroup]) -> list[str | None]:
    """List the traffic types that no enabled plugin supports; None for an invalid annotation."""
    return [group.type_name for group in groups if group.traffic_type is None]


def find_full_name(node: ServiceNode, name: str, group: PortGroup) -> str:
    """Find the full name of an annotation, with the prefix that took effect, and the port if it is of one."""
    ports = [text for port in group.ports for text in (str(port.number), port.name) if text] if group.own_port else []
    names = [*(f"{port}.{name}" for port in ports), name]
    full_names = [prefix + each for each in names for prefix in reversed(PREFIXES)]
    return next(full_name for full_name in full_names if full_name in node.annotations)
