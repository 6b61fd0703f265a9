"""The defaults and checks of an API server, for the fields that the mesh reads.

Takes decoded resources; returns them with defaults, or a list of what is wrong. Keys, hosts and server addresses are
built from these values, so only valid ones may pass. Of plugins' kinds only the names are checked. Does no I/O.
"""

import re
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from maesh_core.model.keys import is_label
from maesh_core.model.resources import (
    EndpointPort,
    Endpoints,
    EndpointSlice,
    Namespace,
    ObjectReference,
    Pod,
    Resource,
    ResourceKind,
    Service,
    ServicePort,
)

DEFAULT_NAMESPACE = "default"
DEFAULT_SERVICE_ACCOUNT = "default"

MAX_SUBDOMAIN_LENGTH = 253
MAX_PORT_NAME_LENGTH = 15
MAX_FAULTS = 10
"""Limit of reported faults of one resource; the others are reported when these are corrected."""

_WORD = r"[a-z0-9]+(?:-+[a-z0-9]+)*"
_SUBDOMAIN = re.compile(rf"{_WORD}(?:\.{_WORD})*")
_QUALIFIED_PART = re.compile(r"(?=.{1,63}\Z)[A-Za-z0-9]+(?:[-_.]+[A-Za-z0-9]+)*")
_PORT_NAME = re.compile(r"(?=[0-9-]*[a-z])[a-z0-9]+(?:-[a-z0-9]+)*")

_PROTOCOLS = frozenset({"TCP", "UDP", "SCTP"})
_SERVICE_TYPES = frozenset({"ClusterIP", "NodePort", "LoadBalancer", "ExternalName"})
_FAMILIES = {"IPv4": (socket.AF_INET,), "IPv6": (socket.AF_INET6,), "any": (socket.AF_INET, socket.AF_INET6)}


def is_subdomain(text: str) -> bool:
    """Whether text is an RFC 1123 subdomain, as names of most objects are."""
    return len(text) <= MAX_SUBDOMAIN_LENGTH and _SUBDOMAIN.fullmatch(text) is not None


def is_port_name(text: str) -> bool:
    """Whether text is a valid name of a container port (RFC 6335 section 5.1)."""
    return len(text) <= MAX_PORT_NAME_LENGTH and _PORT_NAME.fullmatch(text) is not None


def is_qualified_name(text: str) -> bool:
    """Whether text is a qualified name of Kubernetes: a name, or a DNS subdomain, a slash and a name."""
    prefix, slash, name = text.rpartition("/")
    return (is_subdomain(prefix) if slash else True) and _QUALIFIED_PART.fullmatch(name) is not None


def is_address(text: str, family: str = "any") -> bool:
    """Whether text is an IP address: no name, no zone, no leading zeros. `family` is `IPv4`, `IPv6` or `any`."""
    for number in _FAMILIES[family]:
        try:
            socket.inet_pton(number, text)
        except (OSError, ValueError):
            continue
        return True
    return False


def is_port(number: int) -> bool:
    """Whether a number is a valid port."""
    return 1 <= number <= 65535


# --- what is filled in -------------------------------------------------------------------------------------------


def fill_defaults(resource: Resource, kind: ResourceKind) -> Any:
    """Return the resource with the defaults that an API server would set."""
    namespace = (resource.metadata.namespace or DEFAULT_NAMESPACE) if kind.is_namespaced else ""
    if namespace != resource.metadata.namespace:
        metadata = msgspec.structs.replace(resource.metadata, namespace=namespace)
        resource = msgspec.structs.replace(resource, metadata=metadata)
    if isinstance(resource, Service):
        return _complete_service(resource)
    if isinstance(resource, EndpointSlice):
        ports = _complete_ports(resource.ports)
        return resource if ports is resource.ports else msgspec.structs.replace(resource, ports=ports)
    if isinstance(resource, Pod) and not resource.spec.service_account_name:
        spec = msgspec.structs.replace(resource.spec, service_account_name=DEFAULT_SERVICE_ACCOUNT)
        return msgspec.structs.replace(resource, spec=spec)
    return resource


def _complete_service(service: Service) -> Service:
    ports = tuple(
        msgspec.structs.replace(port, protocol=port.protocol or "TCP", target_port=port.target_port or None)
        if not port.protocol or port.target_port in (0, "")
        else port
        for port in service.spec.ports
    )
    type_ = service.spec.type or "ClusterIP"
    if ports == service.spec.ports and type_ == service.spec.type:
        return service
    return msgspec.structs.replace(service, spec=msgspec.structs.replace(service.spec, ports=ports, type=type_))


def _complete_ports(ports: tuple[EndpointPort, ...]) -> tuple[EndpointPort, ...]:
    if all(port.protocol for port in ports):
        return ports
    return tuple(msgspec.structs.replace(port, protocol=port.protocol or "TCP") for port in ports)


# --- what is refused ---------------------------------------------------------------------------------------------


def find_faults(resource: Resource, kind: ResourceKind) -> Iterator[str]:
    """List what an API server would refuse, field by field; empty for a valid resource."""
    for count, fault in enumerate(_find_all_faults(resource, kind)):
        if count == MAX_FAULTS:
            yield "and more"
            return
        yield fault


def _find_all_faults(resource: Resource, kind: ResourceKind) -> Iterator[str]:
    metadata = resource.metadata
    is_name = is_label if kind.type in _LABEL_NAMED else is_subdomain
    if not is_name(metadata.name):
        what = "label" if is_name is is_label else "subdomain"
        yield f"metadata.name: {show_value(metadata.name)} is not a DNS {what} (RFC 1123)"
    if kind.is_namespaced and not is_label(metadata.namespace):
        yield f"metadata.namespace: {show_value(metadata.namespace)} is not a DNS label (RFC 1123)"
    find_own = _FINDERS.get(kind.type)
    if find_own is not None:
        yield from find_own(resource)


def _find_service_faults(service: Service) -> Iterator[str]:
    spec = service.spec
    if spec.type not in _SERVICE_TYPES:
        yield f"spec.type: {show_value(spec.type)} is not one of {', '.join(sorted(_SERVICE_TYPES))}"
    if spec.cluster_ip not in ("", "None") and not is_address(spec.cluster_ip):
        yield f"spec.clusterIP: {show_value(spec.cluster_ip)} is neither an IP address nor None"
    for index, address in enumerate(spec.cluster_ips):
        if address != "None" and not is_address(address):
            yield f"spec.clusterIPs[{index}]: {show_value(address)} is neither an IP address nor None"
    if spec.external_name and not is_subdomain(spec.external_name.removesuffix(".").lower()):
        yield f"spec.externalName: {show_value(spec.external_name)} is not a DNS name"
    for index, port in enumerate(spec.ports):
        yield from _find_service_port_faults(port, f"spec.ports[{index}]")
    yield from _find_repetitions("spec.ports", [(port.port, port.protocol) for port in spec.ports], "port")
    yield from _find_repetitions("spec.ports", [port.name for port in spec.ports], "name")


def _find_service_port_faults(port: ServicePort, path: str) -> Iterator[str]:
    yield from _find_port_faults(port.port, port.name, port.protocol, path)
    if port.app_protocol and not is_qualified_name(port.app_protocol):
        yield f"{path}.appProtocol: {show_value(port.app_protocol)} is not a qualified name"
    target = port.target_port
    if isinstance(target, int) and not is_port(target):
        yield f"{path}.targetPort: {target} is not in 1 to 65535"
    if isinstance(target, str) and not is_port_name(target):
        yield f"{path}.targetPort: {show_value(target)} is neither a number nor the name of a container's port"


def _find_port_faults(number: int | None, name: str, protocol: str, path: str) -> Iterator[str]:
    if number is not None and not is_port(number):
        yield f"{path}.port: {number} is not in 1 to 65535"
    if name and not is_label(name):
        yield f"{path}.name: {show_value(name)} is not a DNS label (RFC 1123)"
    if protocol not in _PROTOCOLS:
        yield f"{path}.protocol: {show_value(protocol)} is not one of {', '.join(sorted(_PROTOCOLS))}"


def _find_repetitions(path: str, values: Sequence[Any], what: str) -> Iterator[str]:
    if len(set(values)) != len(values):
        repeated = next(value for index, value in enumerate(values) if value in values[:index])
        shown = "/".join(str(part) for part in repeated) if isinstance(repeated, tuple) else show_value(repeated)
        yield f"{path}: {what} {shown} appears twice"


def _find_slice_faults(item: EndpointSlice) -> Iterator[str]:
    family = item.address_type
    if family not in ("IPv4", "IPv6", "FQDN"):
        yield f"addressType: {show_value(family)} is none of FQDN, IPv4, IPv6"
        return
    for index, port in enumerate(item.ports):
        yield from _find_port_faults(port.port, port.name, port.protocol, f"ports[{index}]")
    for index, endpoint in enumerate(item.endpoints):
        if not endpoint.addresses:
            yield f"endpoints[{index}].addresses: none is given"
        for address in endpoint.addresses:
            if not (is_subdomain(address) if family == "FQDN" else is_address(address, family)):
                yield f"endpoints[{index}].addresses: {show_value(address)} is not an {family} address"
        if endpoint.target_ref is not None:
            yield from _find_reference_faults(endpoint.target_ref, f"endpoints[{index}].targetRef")


def _find_endpoints_faults(endpoints: Endpoints) -> Iterator[str]:
    for index, subset in enumerate(endpoints.subsets):
        path = f"subsets[{index}]"
        for position, port in enumerate(subset.ports):
            yield from _find_port_faults(port.port, port.name, port.protocol, f"{path}.ports[{position}]")
        for position, address in enumerate(subset.addresses):
            if not is_address(address.ip):
                yield f"{path}.addresses[{position}].ip: {show_value(address.ip)} is not an IP address"
            if address.target_ref is not None:
                yield from _find_reference_faults(address.target_ref, f"{path}.addresses[{position}].targetRef")


def _find_pod_faults(pod: Pod) -> Iterator[str]:
    if pod.status.pod_ip and not is_address(pod.status.pod_ip):
        yield f"status.podIP: {show_value(pod.status.pod_ip)} is not an IP address"
    if not is_subdomain(pod.spec.service_account_name):
        yield f"spec.serviceAccountName: {show_value(pod.spec.service_account_name)} is not a DNS subdomain (RFC 1123)"
    for index, container in enumerate(pod.spec.containers):
        for position, port in enumerate(container.ports):
            path = f"spec.containers[{index}].ports[{position}]"
            if not is_port(port.container_port):
                yield f"{path}.containerPort: {port.container_port} is not in 1 to 65535"
            if port.name and not is_port_name(port.name):
                yield f"{path}.name: {show_value(port.name)} is not a port name (RFC 6335)"
            if port.protocol not in _PROTOCOLS:
                yield f"{path}.protocol: {show_value(port.protocol)} is not one of {', '.join(sorted(_PROTOCOLS))}"


def _find_reference_faults(reference: ObjectReference, path: str) -> Iterator[str]:
    if reference.name and not is_subdomain(reference.name):
        yield f"{path}.name: {show_value(reference.name)} is not a DNS subdomain (RFC 1123)"
    if reference.namespace and not is_label(reference.namespace):
        yield f"{path}.namespace: {show_value(reference.namespace)} is not a DNS label (RFC 1123)"


def show_value(text: str) -> str:
    """Show an untrusted value on one line, shortened."""
    return ascii(text if len(text) <= 80 else text[:80] + "…")


_LABEL_NAMED: frozenset[type[Resource]] = frozenset({Service, Namespace})
"""Kinds whose names become part of a host or a key, where a dot would be ambiguous."""

_FINDERS: dict[type[Resource], Callable[[Any], Iterable[str]]] = {
    Service: _find_service_faults,
    EndpointSlice: _find_slice_faults,
    Endpoints: _find_endpoints_faults,
    Pod: _find_pod_faults,
}
