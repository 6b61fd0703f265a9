"""The traffic type of a service, and of each of its ports.

Takes the annotations of a Service, without prefix, and its ports; returns both. For a port, the first of these decides:
its own annotation, the annotation of the service, its `appProtocol`, what plugins say, and the default. Which traffic
types exist is not known here.
"""

import re
from collections.abc import Iterable, Mapping

import msgspec

from maesh_core.errors import ConfigurationError
from maesh_core.model.annotations import TRAFFIC_TYPE, PortAnnotations, find_chosen_traffic_type
from maesh_core.model.topology import PortNode, ServiceNode

_PATTERN = re.compile(r"[a-z][a-z0-9-]*")


def read_traffic_type(annotations: PortAnnotations, default: str, errors: list[str]) -> str | None:
    """Read the traffic type of a service; None if the annotation is invalid, with the error in `errors`."""
    text = annotations.shared.get(TRAFFIC_TYPE)
    return default if text is None else _check(TRAFFIC_TYPE, text, errors)


def add_traffic_types(
    ports: Iterable[PortNode], annotations: PortAnnotations, of_service: str | None, errors: list[str]
) -> tuple[PortNode, ...]:
    """Add the traffic type to each port that has another one than its service."""
    return tuple(_add(port, _choose(port, annotations, of_service, errors), of_service) for port in ports)


def add_found_types(node: ServiceNode, found: Mapping[tuple[int, str], str]) -> ServiceNode:
    """Add the traffic types that plugins found, by port number and protocol, where nothing else decides."""
    if not found or node.traffic_type is None:
        return node
    ports = tuple(
        _add(port, found[place], node.traffic_type)
        if (place := (port.number, port.protocol)) in found and not _is_decided(node, port)
        else port
        for port in node.ports
    )
    return msgspec.structs.replace(node, ports=ports)


def _add(port: PortNode, traffic_type: str | None, of_service: str | None) -> PortNode:
    own = None if traffic_type == of_service else traffic_type
    return port if own == port.traffic_type else msgspec.structs.replace(port, traffic_type=own)


def _choose(port: PortNode, annotations: PortAnnotations, of_service: str | None, errors: list[str]) -> str | None:
    try:
        found = annotations.find_traffic_type(port)
    except ConfigurationError as error:
        errors.append(str(error))
        return of_service
    if found is None or found == annotations.shared.get(TRAFFIC_TYPE):
        return of_service
    return _check(f"{port.number}.{TRAFFIC_TYPE}", found, errors)


def _is_decided(node: ServiceNode, port: PortNode) -> bool:
    try:
        return find_chosen_traffic_type(node.annotations, port) is not None
    except ConfigurationError:  # it is an error of the service already
        return True


def _check(name: str, text: str, errors: list[str]) -> str | None:
    if _PATTERN.fullmatch(text):
        return text
    errors.append(f"annotation {name}: {text!r} is not a traffic type")
    return None
