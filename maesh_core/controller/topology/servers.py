"""The servers of each port of a service.

Takes the addresses behind a service (endpoints.py); returns the servers of a given port, with their port numbers. An
EndpointPort belongs to the ServicePort with its name and protocol (Kubernetes API). A named target port is looked up in
each pod only if nothing else has the number.
"""

from collections.abc import Iterable, Iterator, Sequence

from maesh_core.controller.topology.endpoints import Address, Group
from maesh_core.model.resources import EndpointPort, Pod, ServicePort
from maesh_core.model.topology import ServerNode

_HIGHEST_PORT = 65535


def build_servers(
    port: ServicePort, groups: Sequence[Group], siblings: Sequence[ServicePort], notices: list[str]
) -> tuple[ServerNode, ...]:
    """Build the servers of one port, sorted, without duplicates; `siblings` are all ports of the service."""
    servers: set[ServerNode] = set()
    is_served = False
    for group in groups:
        match = None if group.ports is None else _find_port(port, group.ports, siblings)
        if group.ports is not None and match is None:
            continue
        is_served = True
        number = None if match is None else match.port
        found = _address_targets(port, group.addresses, notices) if number is None else _pair(group.addresses, number)
        servers.update(
            ServerNode(address=address.ip, port=target, pod=address.pod, node=address.node, is_name=address.is_name)
            for address, target in found
            if _is_port(target, port, notices)
        )
    if groups and not is_served and any(group.addresses for group in groups):
        notices.append(f"port {port.port}: no {port.protocol} port of its endpoints is named {port.name!r}")
    return _deduplicate(servers)


def explain_no_server(port: ServicePort, groups: Sequence[Group]) -> str:
    """Explain why no address serves a port; empty if there are no addresses."""
    inhabited = [group for group in groups if group.addresses]
    if not inhabited:
        return ""
    target = get_target_port(port)
    if all(group.ports is not None for group in inhabited):
        return f"no {port.protocol} port of its endpoints is named {port.name!r}"
    if isinstance(target, str):
        return f"none of its pods has a {port.protocol} port named {target!r}"
    return f"target port {target} is not a valid port"


def _find_port(
    port: ServicePort, candidates: Sequence[EndpointPort], siblings: Sequence[ServicePort]
) -> EndpointPort | None:
    """Match by name and protocol; a single port without a name matches a single port of any name."""
    suitable = [candidate for candidate in candidates if candidate.protocol == port.protocol]
    for candidate in suitable:
        if candidate.name == port.name:
            return candidate
    is_alone = sum(sibling.protocol == port.protocol for sibling in siblings) == 1
    return suitable[0] if is_alone and len(suitable) == 1 and not suitable[0].name else None


def _pair(addresses: Iterable[Address], number: int) -> Iterator[tuple[Address, int]]:
    return ((address, number) for address in addresses)


def _address_targets(
    port: ServicePort, addresses: Sequence[Address], notices: list[str]
) -> Iterator[tuple[Address, int]]:
    """Pair addresses with the number of the Service's target port; addresses without one are left out."""
    target = get_target_port(port)
    if isinstance(target, int):
        yield from _pair(addresses, target)
        return
    for address in addresses:
        number = None if address.resource is None else _find_container_port(address.resource, target, port.protocol)
        if number is None:
            notices.append(f"port {port.port}: {address.pod or address.ip} has no {port.protocol} port {target!r}")
        else:
            yield address, number


def get_target_port(port: ServicePort) -> int | str:
    """Return the target port: a number or a name; by default it is the port's own number."""
    target = port.target_port
    if isinstance(target, str) and target.isascii() and target.isdigit():
        return int(target)
    return target or port.port


def _find_container_port(pod: Pod, name: str, protocol: str) -> int | None:
    for container in pod.spec.containers:
        for port in container.ports:
            if port.name == name and port.protocol == protocol:
                return port.container_port
    return None


def _is_port(number: int, port: ServicePort, notices: list[str]) -> bool:
    is_valid = 1 <= number <= _HIGHEST_PORT
    if not is_valid:
        notices.append(f"port {port.port}: {number} is not a valid port and is ignored")
    return is_valid


def _deduplicate(servers: set[ServerNode]) -> tuple[ServerNode, ...]:
    """Remove servers that differ only in pod or node: one with a pod is kept, the lowest key first."""
    ordered = sorted(
        servers,
        key=lambda server: (
            server.address,
            server.port,
            server.pod is None,
            server.pod or (),
            not server.node,
            server.node,
        ),
    )
    return tuple(
        server
        for position, server in enumerate(ordered)
        if position == 0 or (server.address, server.port) != (ordered[position - 1].address, ordered[position - 1].port)
    )
