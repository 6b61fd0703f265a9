"""Builds grants from TrafficTargets, route groups and routes: which clients may reach a service's ports.

Takes a view and the node of a service with its branches. Returns the settings of its middleware, and the targets as the
topology shows them. Denies by default: a target that names missing objects, or has no meaning, grants nothing and has
an error. sources.py finds the clients, and target_rules.py reads what rules allow.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from maesh_smi.additions import UnreadSplits

from maesh_acl import AccessSettings, AclSettings, Grant, LeafGrants
from maesh_acl.granting.destinations import OUTSIDE_ACCOUNT, find_outside_account, group_servers
from maesh_acl.granting.modes import ModeFinder, is_audited_target
from maesh_acl.granting.sources import SourceFinder
from maesh_acl.granting.target_rules import HTTP_GROUP, TCP_ROUTE, UDP_ROUTE, TargetRules, read_rules
from maesh_acl.kinds import SERVICE_ACCOUNT, TARGETS_BY_DESTINATION, TrafficTarget
from maesh_core.plugin import (
    BackendNode,
    ConfigurationError,
    HttpMatch,
    ObjectFindings,
    ObjectKey,
    PortNode,
    ServerNode,
    ServiceNode,
    TopologyView,
    build_port_key,
    plan_rules,
)

OPENS_ALL = "it has no rules, so it allows all HTTP requests; add rules to limit them"


class TargetView(msgspec.Struct, frozen=True, kw_only=True):
    """A target as the topology shows it, for one service."""

    service: str
    name: str
    namespace: str
    sources: tuple[Mapping[str, Any], ...] = ()
    destination: Mapping[str, Any] = {}
    rules: tuple[Mapping[str, Any], ...] = ()
    errors: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


class _Leaf(msgspec.Struct, frozen=True):
    """A service at the end of a route, with the grants and the mode of the port that is reached."""

    key: ObjectKey
    port: PortNode
    grants: tuple[Grant, ...]
    is_audited: bool


class GrantFinder:
    """The grants of one service, for one build."""

    def __init__(self, view: TopologyView, service: ServiceNode, settings: AccessSettings) -> None:
        self._view = view
        self._service = service
        self._settings = settings
        self._modes = ModeFinder(view, settings)
        self._grants: dict[tuple[ObjectKey, int, str | None], tuple[Grant, ...]] = {}
        self._rules: dict[ObjectKey, TargetRules] = {}
        self._addresses: dict[ObjectKey, tuple[str, ...]] = {}
        self._traffic_type: str | None = None
        """That of the service's port: traffic to its leaves is carried as this type, too."""
        self._seen: dict[ObjectKey, list[str]] = {}
        """The errors of each target that concerns the service or its leaves."""
        self._useless: dict[tuple[ObjectKey, ObjectKey], str] = {}
        """Why a target grants no access to a service, by both."""
        self._granting: set[tuple[ObjectKey, ObjectKey]] = set()
        self.shown: dict[str, TargetView] = {}
        self.notices: list[str] = []
        self.sources = SourceFinder(view, self.notices)

    def _note_outside(self) -> None:
        """Say that outside servers without an account cannot be opened to anybody."""
        for port in self._service.ports:
            if any(server.is_name for server in port.servers) and find_outside_account(self._service) is None:
                self.notices.append(
                    "acl: no client is allowed to reach its servers outside of the mesh; the annotation "
                    f"{OUTSIDE_ACCOUNT} names the account that TrafficTargets have as destination"
                )
                return

    def build_settings(self) -> AclSettings:
        """Build the settings for every destination of the service.

        While a split that could divide its traffic cannot be read, no client is allowed, because the leaves that a
        client must be allowed to reach are unknown.
        """
        unread = self._service.additions.get("smi")
        if isinstance(unread, UnreadSplits):
            names = ", ".join(unread.names)
            self.notices.append(f"acl: no client is allowed while TrafficSplit {names} cannot be read")
            return AclSettings()  # also in audit mode: a leaf that the split names may be in another mode
        streams: dict[str, tuple[LeafGrants, ...]] = {}
        datagrams: dict[str, tuple[LeafGrants, ...]] = {}
        for port in filter(self._is_routed, self._service.ports):
            self._traffic_type = self._service.get_traffic_type(port)
            destinations = datagrams if port.protocol == "UDP" else streams
            destinations |= self._build_destinations(port)
        self._note_outside()
        self.notices += [f"TrafficTarget {target}: {text}" for target, text in self._list_useless()]
        self.notices += self._modes.notices
        if streams.keys() & datagrams.keys():
            return AclSettings(destinations=streams, datagrams=datagrams)
        return AclSettings(destinations={**streams, **datagrams})

    def _is_routed(self, port: PortNode) -> bool:
        """Whether a port has the protocol of its traffic type: another port may have its number."""
        transport = "UDP" if self._service.get_traffic_type(port) == "udp" else "TCP"
        return port.protocol == transport

    def _build_destinations(self, port: PortNode) -> dict[str, tuple[LeafGrants, ...]]:
        """Build the leaves of each service that a request to a port can be routed or copied to, by its key.

        Of a rule, only backends with servers are leaves: it answers the shares of the others itself. If it reaches no
        server at all, the service's own grants decide who gets its answer.
        """
        key = build_port_key(self._service.key, port.number)
        own = self._build_leaves([self._build_leaf(self._service, port)])
        destinations = {key: own}
        for branch in port.branches:
            weighted = [backend for backend in branch.backends if backend.weight > 0]
            leaves = [
                leaf for leaf in weighted if leaf.servers
            ] or weighted  # the others get the share of a leaf without servers
            destinations[f"{key}/{branch.name}"] = self._build_backends(leaves)
        plan = plan_rules(self._service.key, port)
        for place, backend in plan.backends.items():
            destinations.setdefault(place, self._build_backends([backend]))
        for rule in plan.rules:
            reached = [part.backend for part in rule.parts if part.backend.servers]
            destinations[rule.key] = self._build_backends(reached) or own
        return destinations

    def _build_backends(self, backends: Sequence[BackendNode]) -> tuple[LeafGrants, ...]:
        return self._build_leaves(
            [self._build_named_leaf(backend.service, backend.port) for backend in backends if backend.port is not None]
        )

    def list_objects(self) -> tuple[ObjectFindings, ...]:
        """List the targets that concern the service, and the pods that identify no client, with the reasons."""
        useless: dict[ObjectKey, list[str]] = {}
        for target, text in self._list_useless():
            useless.setdefault(target, []).append(text)
        targets = (
            ObjectFindings(type=TrafficTarget, key=key, errors=tuple(errors), notices=tuple(useless.get(key, ())))
            for key, errors in sorted(self._seen.items())
        )
        return (*targets, *self.sources.list_findings())

    def _list_useless(self) -> list[tuple[ObjectKey, str]]:
        return [(place[0], text) for place, text in sorted(self._useless.items()) if place not in self._granting]

    def _build_named_leaf(self, key: ObjectKey, port: PortNode) -> _Leaf:
        node = self._service if key == self._service.key else self._view.build_service(key)
        return _Leaf(key, port, (), is_audited=False) if node is None else self._build_leaf(node, port)

    def _build_leaf(self, node: ServiceNode, port: PortNode) -> _Leaf:
        return _Leaf(node.key, port, self._find_grants(node, port), is_audited=self._modes.is_audited(node, port))

    def _build_leaves(self, leaves: Sequence[_Leaf]) -> tuple[LeafGrants, ...]:
        """Add the servers of all leaves if a grant is limited to some: those of other leaves must be known then too."""
        is_limited = any(grant.servers is not None for leaf in leaves for grant in leaf.grants)
        called = self._service.key
        return tuple(
            LeafGrants(
                service=leaf.key.name if leaf.key.namespace == called.namespace else str(leaf.key),
                grants=leaf.grants,
                servers=tuple((server.address, server.port) for server in leaf.port.servers) if is_limited else (),
                is_audited=leaf.is_audited,
            )
            for leaf in leaves
        )

    def _find_grants(self, node: ServiceNode, port: PortNode) -> tuple[Grant, ...]:
        place = (node.key, port.number, self._traffic_type)
        if place not in self._grants:
            self._grants[place] = tuple(self._build_grants(node, port))
        return self._grants[place]

    def _build_grants(self, node: ServiceNode, port: PortNode) -> Iterable[Grant]:
        """Build a grant for each target whose pods, or outside servers, are servers of the port."""
        servers = group_servers(node, port)
        for account in sorted(servers):
            for target in self._view.find(TrafficTarget, TARGETS_BY_DESTINATION, account):
                mine = servers[account]
                try:
                    self._check(target, node)
                    grant = self._build_grant(target, port, mine, self._traffic_type)
                except ConfigurationError as error:
                    self._show(target, node, str(error))
                    continue
                self._show(target, node)
                if isinstance(grant, str):
                    of_what = f"{self._traffic_type} port {port.number} of service {node.key}"
                    self._useless.setdefault((target.key, node.key), f"{grant}, so it grants no access to {of_what}")
                elif grant is not None:
                    self._granting.add((target.key, node.key))
                    yield grant

    def _check(self, target: TrafficTarget, node: ServiceNode) -> None:
        """Raise ConfigurationError if a target grants nothing, regardless of its rules.

        A destination's port must be one that the service's pods serve (Maesh).
        """
        if target.faults:
            raise ConfigurationError("; ".join(target.faults))
        is_audited_target(target)
        namespace = target.called_key.namespace
        if self._settings.own_namespace_only and namespace != target.metadata.namespace:
            raise ConfigurationError(
                f"its destination is in namespace {namespace}, but acl.own-namespace-only limits targets to their own"
                " namespace"
            )
        if target.destination.kind not in ("", SERVICE_ACCOUNT):
            raise ConfigurationError(f"kind {target.destination.kind!r} of the destination is not {SERVICE_ACCOUNT}")
        only = target.destination.read_port()
        served = {server.port for port in node.ports for server in port.servers}
        if only is not None and served and only not in served:
            raise ConfigurationError(f"port {only} of the destination is not a port of service {node.key.name}'s pods")

    def _build_grant(
        self, target: TrafficTarget, port: PortNode, servers: list[ServerNode], traffic_type: str | None
    ) -> Grant | str | None:
        """Build the grant of a target for a port; None without clients or servers, a text if its rules do not fit."""
        if target.key not in self._rules:
            self._rules[target.key] = read_rules(self._view, target)
        rules = self._rules[target.key]
        only = target.destination.read_port()
        matches: tuple[HttpMatch, ...] = ()
        if traffic_type == "udp":
            is_open, ports = rules.opens_udp, rules.udp_ports
        elif traffic_type == "tcp":
            is_open, ports = rules.opens_tcp, rules.tcp_ports
        else:
            is_open, ports = rules.matches is not None, rules.tcp_ports
            matches = rules.matches or ()
        usable = [
            server
            for server in servers
            if (only is None or server.port == only) and (ports is None or server.port in ports)
        ]
        if target.key not in self._addresses:
            self._addresses[target.key] = self.sources.find_addresses(target.sources)
        sources = self._addresses[target.key]
        if not is_open:
            needed = {"udp": UDP_ROUTE, "tcp": TCP_ROUTE}.get(traffic_type or "", HTTP_GROUP)
            return f"it has no {needed} in its rules"
        if servers and not usable:
            return "its ports match no port of the pods"
        if not (usable and sources):
            return None
        is_all = len(usable) == len(port.servers)
        addresses = None if is_all else tuple((server.address, server.port) for server in usable)
        return Grant(
            target=str(target.key),
            sources=sources,
            matches=() if HttpMatch() in matches else matches,
            servers=addresses,
            is_audited=bool(matches) and is_audited_target(target),
        )

    def _show(self, target: TrafficTarget, node: ServiceNode, error: str = "") -> None:
        key = f"{node.key}:{target.key}"
        errors = (error,) if error else ()
        known = self._seen.setdefault(target.key, [])
        if error and error not in known and not target.faults:  # faults are reported where the object is read
            known.append(error)
        known_notices = self.shown[key].notices if key in self.shown else ()
        notices = (OPENS_ALL,) if not error and not target.rules and self._traffic_type == "http" else known_notices
        if error:
            self.notices.append(f"TrafficTarget {target.key}: {error}; it grants nothing")
        self.notices.extend(f"TrafficTarget {target.key}: {notice}" for notice in notices)
        called = target.destination
        self.shown[key] = TargetView(
            service=str(node.key),
            name=target.metadata.name,
            namespace=target.metadata.namespace,
            sources=tuple({"serviceAccount": each.name, "namespace": each.namespace} for each in target.sources),
            destination={
                "serviceAccount": called.name,
                "namespace": target.called_key.namespace,
                "port": None if called.port is msgspec.UNSET else called.port,
            },
            rules=tuple({"kind": rule.kind, "name": rule.name, "matches": rule.matches} for rule in target.rules),
            errors=errors,
            notices=notices,
        )
