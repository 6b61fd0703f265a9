"""The services and ports of the topology, for explanations: which one a request means, its traffic type and scheme.

Takes documents of the topology; returns parts of them. Raises ConfigurationError for a port that does not exist.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from maesh_core.controller.explaining.client import parse_service_name
from maesh_core.errors import ConfigurationError
from maesh_core.model.addresses import parse_address
from maesh_core.model.annotations import SCHEME, parse_annotations, split_port_annotations
from maesh_core.model.keys import ObjectKey
from maesh_core.model.schemes import SCHEME_BY_APP_PROTOCOL


def find_service_key(text: str, services: Mapping[str, Mapping[str, Any]]) -> ObjectKey:
    """Find the service that a text names: by one of its cluster addresses, or else by its name, which may be unknown.

    `services` are the documents of services, by `name@namespace`. Raises ConfigurationError.
    """
    address = parse_address(text.removeprefix("[").removesuffix("]"))
    if address is not None:
        for document in services.values():
            if address in (*document.get("clusterIps", ()), *document.get("shadowIps", ())):
                return ObjectKey(document["namespace"], document["name"])
        raise ConfigurationError(f"{address} is not a cluster address of a service of the mesh")
    return parse_service_name(text)


def find_port(service: Mapping[str, Any], wanted: int | str | None) -> Mapping[str, Any]:
    """Find a port; of several with the wanted number, the first whose protocol fits the traffic type of the service.

    Raises ConfigurationError.
    """
    ports: Sequence[Mapping[str, Any]] = service["ports"]
    text = "" if wanted is None else str(wanted)
    named = [each for each in ports if text and each.get("name") == text]
    text = text or next((str(each["port"]) for each in ports), "")
    number, _, protocol = text.partition("/")
    numbered = [
        each for each in ports if str(each["port"]) == number and protocol.upper() in ("", each.get("protocol", "TCP"))
    ]
    found = named or numbered
    if not found:
        listed = ", ".join(map(_show_port, ports)) or "none"
        raise ConfigurationError(f"service {service['name']} has no port {text}; its ports: {listed}")
    return next((each for each in found if fits(service, each)), found[0])


def _show_port(port: Mapping[str, Any]) -> str:
    name = f" ({port['name']})" if port.get("name") else ""
    return f"{port['port']}/{port.get('protocol', 'TCP').lower()}{name}"


def fits(service: Mapping[str, Any], port: Mapping[str, Any]) -> bool:
    """Whether traffic of the port's type is carried by its protocol."""
    return bool(port.get("protocol", "TCP") == ("UDP" if find_traffic_type(service, port) == "udp" else "TCP"))


def find_scheme_source(service: Mapping[str, Any], port: int) -> str:
    """Name what selects the scheme of a service's port in the topology; empty if nothing does."""
    documents = [
        each for each in service.get("ports", ()) if (each["port"], each.get("protocol", "TCP")) == (port, "TCP")
    ]
    names = [str(port), *(each.get("name", "") for each in documents)]
    annotations = split_port_annotations(parse_annotations(service.get("annotations", {})))
    for name in names:
        if SCHEME in annotations.own.get(name, {}):
            return f"annotation {name}.{SCHEME}"
    if SCHEME in annotations.shared:
        return f"annotation {SCHEME}"
    known = [each["appProtocol"] for each in documents if each.get("appProtocol") in SCHEME_BY_APP_PROTOCOL]
    return f"appProtocol {known[0]}" if known else ""


def find_traffic_type(service: Mapping[str, Any], port: Mapping[str, Any]) -> Any:
    """Find the traffic type of a port: its own one, or that of its service."""
    return port.get("trafficType") or service["trafficType"]
