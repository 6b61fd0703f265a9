"""Builds the node of one service in the topology.

Takes a View, the key of a Service and the rules; returns its ServiceNode, or None if the mesh ignores it. Errors and
notices are on the node. Which traffic types exist, and what annotations mean, is not known here.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from maesh_core.controller.topology.absence import Absence
from maesh_core.controller.topology.cluster_addresses import HEADLESS, read_cluster_ips, read_shadow_ips
from maesh_core.controller.topology.endpoints import EndpointReader, Group
from maesh_core.controller.topology.port_rules import PortAdditions
from maesh_core.controller.topology.rules import TopologyRules, is_ignored_service
from maesh_core.controller.topology.servers import build_servers, explain_no_server, get_target_port
from maesh_core.controller.topology.traffic_types import add_found_types, add_traffic_types, read_traffic_type
from maesh_core.controller.topology.transport import add_transport
from maesh_core.errors import ConfigurationError
from maesh_core.model.addresses import parse_address
from maesh_core.model.annotations import add_plain_names, parse_annotations, split_port_annotations
from maesh_core.model.findings import ObjectFindings
from maesh_core.model.keys import ObjectKey, is_label
from maesh_core.model.resources import Pod, Service, ServicePort
from maesh_core.model.topology import BranchNode, PodNode, PortNode, ServiceNode
from maesh_core.plugin_system.hookspecs import TopologyBuilder
from maesh_core.plugin_system.interfaces import ResourceT, TopologyView, View
from maesh_core.process.printable import show_line

NAMESPACE_INDEX = "namespace"
"""Protocols of the core's Services."""
_HIGHEST_PORT = 65535


def build_service_node(
    view: View, key: ObjectKey, *, rules: TopologyRules, builders: Sequence[TopologyBuilder] = ()
) -> ServiceNode | None:
    """Build the node of one service; None if it is gone or ignored.

    A ConfigurationError of a plugin's builder becomes an error of the service; other exceptions are passed on, and the
    caller then builds the service without plugins' builders and closes it.
    """
    service = view.get(Service, key)
    if service is None or is_ignored_service(service, rules):
        return None
    node = _build_core_node(view, service, rules)
    if builders:
        node = _add_findings(BuilderView(view, rules), node, builders)
    return add_transport(view, node) if rules.has_transport else node


def _build_core_node(view: View, service: Service, rules: TopologyRules) -> ServiceNode:
    errors: list[str] = []
    reader = EndpointReader(view, service, rules)
    groups = reader.read_groups()
    notices = reader.notices
    errors.extend(map(show_line, reader.errors))
    _check_names(service.key, errors)
    annotations = split_port_annotations(parse_annotations(service.metadata.annotations))
    traffic_type = read_traffic_type(annotations, rules.default_mode, errors)
    ports = _build_ports(service.spec.ports, groups, absence=reader.absence, errors=errors, notices=notices)
    return ServiceNode(
        key=service.key,
        traffic_type=traffic_type,
        annotations=service.metadata.annotations,
        selector=service.spec.selector,
        cluster_ips=read_cluster_ips(view, service, rules, notices),
        shadow_ips=read_shadow_ips(view, service.key, rules),
        is_headless=service.spec.cluster_ip == HEADLESS,
        ports=add_traffic_types(ports, annotations, traffic_type, errors),
        pods=_build_pods(groups),
        errors=tuple(errors),
        notices=tuple(dict.fromkeys(notices)),
    )


def _check_names(key: ObjectKey, errors: list[str]) -> None:
    """Refuse names that no API server would accept: they could stand for two hosts, or two keys."""
    for what, name in (("service's name", key.name), ("namespace", key.namespace)):
        if not is_label(name):
            errors.append(f"{name!r} is not a DNS label, which a {what} must be")


def _build_ports(
    ports: Sequence[ServicePort],
    groups: Sequence[Group],
    *,
    absence: Absence,
    errors: list[str],
    notices: list[str],
) -> tuple[PortNode, ...]:
    """Build the ports; an invalid port is an error, and its index is still counted."""
    nodes: dict[tuple[int, str], PortNode] = {}
    for index, port in enumerate(ports):
        if not 1 <= port.port <= _HIGHEST_PORT:
            errors.append(f"port {port.port} is not a port number")
        elif (port.port, port.protocol) in nodes:
            errors.append(f"port {port.port} {port.protocol} appears twice")
        else:
            servers = build_servers(port, groups, ports, notices)
            nodes[port.port, port.protocol] = PortNode(
                number=port.port,
                name=port.name,
                protocol=port.protocol,
                index=index,
                target_port=get_target_port(port),
                servers=servers,
                unserved="" if servers else explain_no_server(port, groups) or absence.explain(),
                app_protocol=port.app_protocol,
            )
    return tuple(nodes.values())


def _build_pods(groups: Sequence[Group]) -> tuple[PodNode, ...]:
    pods = {
        address.pod: address.resource
        for group in groups
        for address in group.addresses
        if address.pod is not None and address.resource is not None
    }
    return tuple(build_pod(key, pods[key]) for key in sorted(pods))


def build_pod(key: ObjectKey, pod: Pod) -> PodNode:
    """Build the node of a pod."""
    containers = pod.spec.containers
    ports = containers[0].ports if len(containers) == 1 else tuple(port for each in containers for port in each.ports)
    return PodNode(
        key=key,
        service_account=pod.spec.service_account_name,
        address=parse_address(pod.status.pod_ip) or "",
        owners=tuple(f"{owner.kind}/{owner.name}" for owner in pod.metadata.owner_references),
        container_ports=ports,
        node=pod.spec.node_name,
    )


class BuilderView:
    """The view for plugins' builders and checkers: the caller's view, and other services' nodes."""

    __slots__ = ("_nodes", "_rules", "_view")

    def __init__(self, view: View, rules: TopologyRules) -> None:
        self._view, self._rules = view, rules
        self._nodes: dict[ObjectKey, ServiceNode | None] = {}

    def get(self, type_: type[ResourceT], key: ObjectKey) -> ResourceT | None:
        """Read one object, or None."""
        return self._view.get(type_, key)

    def find(self, type_: type[ResourceT], index: str, value: str | ObjectKey) -> Sequence[ResourceT]:
        """Read the objects under a value of an index, sorted by key."""
        return self._view.find(type_, index, value)

    def build_service(self, key: ObjectKey) -> ServiceNode | None:
        """Build another service's node without plugins' additions; None if there is no such service."""
        if key not in self._nodes:
            node = build_service_node(self._view, key, rules=self._rules)
            self._nodes[key] = None if node is None else _show_to_plugins(node)
        return self._nodes[key]

    def list_services(self, namespace: str) -> Sequence[ObjectKey]:
        """List the services of a namespace, sorted."""
        return [service.key for service in self._view.find(Service, NAMESPACE_INDEX, namespace)]

    def has_filter(self, name: str) -> bool:
        """Return whether an enabled plugin builds the filter of this name."""
        return name in self._rules.filters


def _add_findings(view: TopologyView, node: ServiceNode, builders: Sequence[TopologyBuilder]) -> ServiceNode:
    """Let plugins' builders see the same node, and the last ones also the branches, so that order cannot matter."""
    ordered = sorted(builders, key=lambda builder: builder.name)
    first = [builder for builder in ordered if not getattr(builder, "is_last", False)]
    last = [builder for builder in ordered if getattr(builder, "is_last", False)]
    return _ask_builders(view, _ask_builders(view, node, first), last)


def _ask_builders(view: TopologyView, node: ServiceNode, builders: Sequence[TopologyBuilder]) -> ServiceNode:
    additions: dict[str, Any] = dict(node.additions)
    branches: dict[tuple[int, str], tuple[BranchNode, ...]] = {}
    port_additions = PortAdditions()
    pods = list(node.named_pods)
    sections: dict[str, dict[str, Any]] = {name: dict(shown) for name, shown in node.sections.items()}
    objects = list(node.objects)
    errors = list(node.errors)
    notices = list(node.notices)
    shown_node = _show_to_plugins(node)
    for builder in builders:
        try:
            addition = builder.build(view, shown_node)
        except ConfigurationError as error:
            errors.append(show_line(f"{builder.name}: {error}"))
            continue
        if addition is None:
            continue
        if addition.value is not None:
            additions[builder.name] = addition.value
        for place, found in addition.branches.items():
            branches[place] = (*branches.get(place, ()), *found)
            errors.extend(f"{builder.name}: {problem}" for branch in found for problem in _list_unapplied(branch))
        port_additions.add(builder.name, addition)
        pods.extend(addition.pods)
        for name, shown in addition.sections.items():
            sections.setdefault(name, {}).update(shown)
        objects.extend(map(_show_findings, addition.objects))
        errors.extend(map(show_line, addition.errors))
        notices.extend(map(show_line, addition.notices))
    checked = [port_additions.apply(port) for port in node.ports]
    extended = msgspec.structs.replace(
        node,
        ports=tuple(_add_branches(port, branches.get((port.number, port.protocol), ())) for port, _ in checked),
        rule_problems=(*node.rule_problems, *(problem for _, problems in checked for problem in problems)),
        additions=additions,
        named_pods=tuple(pods),
        sections=sections,
        objects=tuple(objects),
        errors=(*errors, *port_additions.errors),
        notices=tuple(notices),
    )
    return add_found_types(extended, port_additions.traffic_types)


def _list_unapplied(branch: BranchNode) -> Iterator[str]:
    """Describe what only rules of a port apply; ignored, it could let requests pass that must be answered."""
    fields = (
        ("an answer", branch.answer),
        ("filters", branch.filters),
        ("shares that are kept", branch.keeps_shares or branch.keeps_idle),
        ("filters of backends", any(backend.filters for backend in branch.backends)),
        ("protocols of backends", any(backend.protocol for backend in branch.backends)),
    )
    for noun, value in fields:
        if value:
            yield show_line(f"this controller does not support {noun} of a branch: {branch.name}")


def _show_findings(found: ObjectFindings) -> ObjectFindings:
    """Show each text as one printable line: names in it may contain anything."""
    errors, notices = tuple(map(show_line, found.errors)), tuple(map(show_line, found.notices))
    if (errors, notices) == (found.errors, found.notices):
        return found
    return msgspec.structs.replace(found, errors=errors, notices=notices)


def _show_to_plugins(node: ServiceNode) -> ServiceNode:
    return msgspec.structs.replace(node, annotations=add_plain_names(node.annotations))


def _add_branches(port: PortNode, branches: tuple[BranchNode, ...]) -> PortNode:
    return msgspec.structs.replace(port, branches=(*port.branches, *branches)) if branches else port
