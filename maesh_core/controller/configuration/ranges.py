"""The ranges of entrypoints: one for each traffic type, and one for the HTTP entrypoints that belong to one port.

Takes traffic types; returns their ranges by name. Assigns nothing.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from maesh_core.plugin_system.protocols import PortRange, TrafficType

Entrypoints = Mapping[str, Mapping[int, int]]
"""Entrypoints of a service by the name of their range, then by port number."""
PendingPorts = Mapping[str, frozenset[int]]
"""Port numbers that wait for their entrypoint, by the name of the range."""

_OWN_SUFFIX = "/own"
"""No traffic type has a slash in its name."""


class NamedRange(NamedTuple):
    """A range of entrypoints, and the protocol of its ports, `TCP` or `UDP`."""

    name: str
    transport: str
    port_range: PortRange


def find_own_range(traffic_type: TrafficType) -> PortRange | None:
    """Find the range for ports that want an entrypoint of their own, if the traffic type shares its others."""
    found: PortRange | None = getattr(traffic_type, "own_range", None)
    return found


def name_own_range(traffic_type: TrafficType) -> str:
    """Name the range of `find_own_range`."""
    return f"{traffic_type.name}{_OWN_SUFFIX}"


def list_ranges(traffic_types: Iterable[TrafficType]) -> list[NamedRange]:
    """List all ranges of these traffic types."""
    found = []
    for each in traffic_types:
        found.append(NamedRange(each.name, each.transport, each.port_range))
        own = find_own_range(each)
        if own is not None:
            found.append(NamedRange(name_own_range(each), each.transport, own))
    return found


def list_exclusive_ranges(traffic_types: Iterable[TrafficType]) -> list[NamedRange]:
    """List the ranges whose entrypoints are assigned to one port each."""
    return [each for each in list_ranges(traffic_types) if each.port_range.is_exclusive]
