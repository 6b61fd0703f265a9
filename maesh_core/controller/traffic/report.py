"""Builds the report: takes sums over all proxies and the services of the mesh, and returns `ServiceTraffic`.

A report has every port of every service, also those without traffic. The counts are of proxies and untrusted; names,
weights, pods and nodes are those of the cluster's objects. Does no I/O.
"""

from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from maesh_core.controller.traffic import wanted_metrics as metrics
from maesh_core.controller.traffic.callers import Caller, Objects, find_caller
from maesh_core.controller.traffic.sums import TrafficSums
from maesh_core.controller.traffic.wanted_metrics import Scope
from maesh_core.controller.traffic.windows import (
    build_branch_window,
    build_edge_window,
    build_rule_window,
    build_server_window,
    build_service_window,
    build_tunnel_counts,
)
from maesh_core.model.keys import ObjectKey, build_port_key
from maesh_core.model.matching import CompiledMatch
from maesh_core.model.metrics import OTHER
from maesh_core.model.resources import Pod
from maesh_core.model.topology import PortNode, ServerNode, ServiceNode
from maesh_core.model.traffic import (
    BranchTraffic,
    EdgeTraffic,
    RuleTraffic,
    ServerTraffic,
    ServiceTraffic,
    TunnelTraffic,
)
from maesh_core.plugin_system.rules import PlannedRule, RulePlan, has_rules, plan_rules

CALLERS_LIMIT: Final = 200
"""Limit of callers of a service port; those with the least traffic are reported together as `other`."""
SHOWN_LIMIT: Final = 20
"""Limit of pods and of addresses of a caller."""
STEP: Final = 500
"""Effort without a pause, which takes a few milliseconds; that for one client, server or destination is 1."""
PORT_EFFORT: Final = 10
_STREAM_TYPES: Final = frozenset(metrics.STREAM_SERVERS)


class DescribedService(NamedTuple):
    """A service of the mesh, with the errors and notices of all stages."""

    node: ServiceNode
    errors: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


def list_ports(node: ServiceNode) -> Iterator[PortNode]:
    """List the ports of a service once for each number: a key of a service port has no protocol."""
    ports: dict[int, PortNode] = {}
    for port in node.ports:
        preferred = "UDP" if node.get_traffic_type(port) == "udp" else "TCP"
        if port.number not in ports or port.protocol == preferred:
            ports[port.number] = port
    yield from ports.values()


def build_scope(services: Iterable[DescribedService]) -> Generator[None, None, Scope]:
    """Collect what exists, so that nothing else is counted; the work may pause between services."""
    keys: set[str] = set()
    servers: dict[str, str] = {}
    destinations: dict[str, str] = {}
    rules: set[str] = set()
    effort = 0
    for service in services:
        for port in list_ports(service.node):
            key = build_port_key(service.node.key, port.number)
            keys.add(key)
            for server in port.servers:
                servers |= _list_spellings(server)
            own_rules = list_rules(key, port)
            if port.branches or has_rules(port):
                destinations |= list_destinations(key, port)
                # Requests for which no destination was picked, such as denied ones, count for their rule or branch.
                undecided = (*own_rules, *(f"{key}/{branch.name}" for branch in port.branches))
                destinations |= {name: name for name in undecided}
            rules.update(own_rules)
            effort += PORT_EFFORT + len(port.servers)
        if effort >= STEP:
            effort = 0
            yield
    return Scope(frozenset(keys), servers, destinations, frozenset(rules))


def _list_spellings(server: ServerNode) -> dict[str, str]:
    name = name_server(server)
    return {name: name, f"{server.address}:{server.port}": name}


def name_server(server: ServerNode) -> str:
    """Name a server as `address:port`; an IPv6 address is in brackets."""
    return f"[{server.address}]:{server.port}" if ":" in server.address else f"{server.address}:{server.port}"


def list_destinations(key: str, port: PortNode) -> dict[str, str]:
    """List the labels of a port's destinations, with the service port that each one is.

    A destination is the port itself, a backend's port, or the key of a part of a branch or of a rule
    (plugin_system/branches.py and rules.py), which stands for its backend's port.
    """
    found = {key: key}
    for name, backend in _plan(key, port).backends.items() if has_rules(port) else ():
        if backend.port is not None:
            destination = build_port_key(backend.service, backend.port.number)
            found[destination] = found[name] = destination
    for branch in port.branches:
        for backend in branch.backends:
            if backend.port is None:
                continue
            destination = build_port_key(backend.service, backend.port.number)
            found[destination] = found[f"{key}/{branch.name}/{backend.service.name}"] = destination
    return found


def list_rules(key: str, port: PortNode) -> tuple[str, ...]:
    """List the keys of the services of a port's rules, in the order of the rules."""
    return tuple(rule.key for rule in _plan(key, port).rules) if has_rules(port) else ()


def find_weights(key: str, port: PortNode) -> Mapping[str, float | None]:
    """Compute the configured share of each destination, among the requests that no branch selects by their content.

    None: the destination gets only selected requests. A port without branches and rules has no destinations.
    """
    if not has_rules(port):
        return _find_branch_weights(key, port) if port.branches else {}
    plan = _plan(key, port)
    ruled: dict[str, float | None] = {name: None for rule in plan.rules for name, _ in _list_shares(rule)}
    if port.rules is None:  # rules for clients of a namespace select by content, too
        return {**ruled, **(_find_branch_weights(key, port) if port.branches else {key: 1.0})}
    place = next((each for each in port.rules.order if CompiledMatch(each.match).is_always), None)
    if place is not None and plan.producer is not None:
        for name, share in _list_shares(plan.producer[place.rule]):
            ruled[name] = (ruled[name] or 0.0) + share
    return ruled


def _find_branch_weights(key: str, port: PortNode) -> dict[str, float | None]:
    found: dict[str, float | None] = {key: None}
    for branch in port.branches:
        for backend in branch.backends:
            if backend.port is not None:
                found.setdefault(build_port_key(backend.service, backend.port.number), None)
    rest = next((branch for branch in port.branches if not branch.matches), None)
    if rest is None:
        return {**found, key: 1.0}
    found[key] = 0.0
    total = sum(backend.weight for backend in rest.backends)
    for backend in rest.backends:
        if backend.port is None:
            continue
        destination = build_port_key(backend.service, backend.port.number)
        found[destination] = (found[destination] or 0.0) + (backend.weight / total if total > 0 else 0.0)
    return found


def _list_shares(rule: PlannedRule) -> Iterator[tuple[str, float]]:
    """List the backends of a rule with their shares; responses of the mesh are no destinations."""
    total = sum(part.weight for part in rule.parts)
    for part in rule.parts:
        if part.backend.port is not None:
            share = part.weight / total if total else 0.0
            yield build_port_key(part.backend.service, part.backend.port.number), share


def _plan(key: str, port: PortNode) -> RulePlan:
    """Plan the rules of the port with this key."""
    namespace, _, name = key.rpartition(":")[0].partition("/")
    return plan_rules(ObjectKey(namespace, name), port)


class ReportBuilder:
    """Builds the services of one report."""

    __slots__ = ("_callers", "_effort", "_objects", "_sums")

    def __init__(self, sums: TrafficSums, objects: Objects) -> None:
        self._sums = sums
        self._objects = objects
        self._callers: dict[str, Caller] = {}
        self._effort = 0

    def __repr__(self) -> str:
        return f"<ReportBuilder {self._sums!r}>"

    def build_services(self, services: Iterable[DescribedService]) -> Generator[None, None, tuple[ServiceTraffic, ...]]:
        """Build one entry for each port of these services; the work may pause, also within a service."""
        found = []
        for service in services:
            for port in list_ports(service.node):
                found.append((yield from self._build_port(service, port)))
                yield from self._pause(PORT_EFFORT)
        return tuple(found)

    def _pause(self, effort: int) -> Generator[None, None, None]:
        """Yield if enough was done since the last time."""
        self._effort += effort
        if self._effort >= STEP:
            self._effort = 0
            yield

    def list_refused(self) -> dict[str, int]:
        """Count the requests that were refused before they were routed, by status, since the proxies' start."""
        total = self._sums.total
        return {code: total.count(metrics.REFUSED, code) for code in total.list_firsts(metrics.REFUSED)}

    def build_tunnels(self) -> TunnelTraffic:
        """Report the TLS connections between nodes."""
        return TunnelTraffic(last=build_tunnel_counts(self._sums.last), total=build_tunnel_counts(self._sums.total))

    def _build_port(self, service: DescribedService, port: PortNode) -> Generator[None, None, ServiceTraffic]:
        node, last, total = service.node, self._sums.last, self._sums.total
        key = build_port_key(node.key, port.number)
        traffic_type = node.get_traffic_type(port)
        stream_type = traffic_type if traffic_type in _STREAM_TYPES else ""
        return ServiceTraffic(
            key=key,
            namespace=node.key.namespace,
            name=node.key.name,
            port=str(port.number),
            traffic_type=traffic_type or "",
            last=build_service_window(last, key, is_http=not stream_type),
            total=build_service_window(total, key, is_http=not stream_type),
            branches=(yield from self._build_branches(key, port, stream_type)),
            rules=(yield from self._build_rules(key, port, stream_type)),
            servers=(yield from self._build_servers(port, stream_type)),
            callers=(yield from self._build_callers(key)),
            open_breakers=total.count(metrics.BREAKERS, key),
            errors=service.errors,
            notices=service.notices,
        )

    def _build_branches(
        self, key: str, port: PortNode, stream_type: str
    ) -> Generator[None, None, tuple[BranchTraffic, ...]]:
        branches = []
        for destination, weight in find_weights(key, port).items():
            last = build_branch_window(self._sums.last, key, destination, stream_type=stream_type)
            total = build_branch_window(self._sums.total, key, destination, stream_type=stream_type)
            branches.append(BranchTraffic(destination=destination, weight=weight, last=last, total=total))
            yield from self._pause(1)
        return tuple(branches)

    def _build_rules(
        self, key: str, port: PortNode, stream_type: str
    ) -> Generator[None, None, tuple[RuleTraffic, ...]]:
        rules = []
        for rule in list_rules(key, port):
            last = build_rule_window(self._sums.last, key, rule, stream_type=stream_type)
            total = build_rule_window(self._sums.total, key, rule, stream_type=stream_type)
            rules.append(RuleTraffic(rule=rule.removeprefix(f"{key}/"), last=last, total=total))
            yield from self._pause(1)
        return tuple(rules)

    def _build_servers(self, port: PortNode, stream_type: str) -> Generator[None, None, tuple[ServerTraffic, ...]]:
        servers = []
        for server in port.servers:
            servers.append(self._build_server(server, stream_type))
            yield from self._pause(1)
        return tuple(servers)

    def _build_server(self, server: ServerNode, stream_type: str) -> ServerTraffic:
        name, key = name_server(server), server.pod
        pod = None if key is None else self._objects.get(Pod, key)
        aside = metrics.STREAM_ASIDE.get(stream_type, metrics.ASIDE)
        return ServerTraffic(
            server=name,
            pod=_name_pod(key) if key else "",
            node=pod.spec.node_name if pod else "",
            last=build_server_window(self._sums.last, name, stream_type=stream_type),
            total=build_server_window(self._sums.total, name, stream_type=stream_type),
            is_set_aside=self._sums.total.count(aside, name) > 0,
        )

    def _build_callers(self, key: str) -> Generator[None, None, tuple[EdgeTraffic, ...]]:
        """Report the callers of a service port, those with the most traffic first."""
        clients: dict[Caller, list[str]] = defaultdict(list)
        pods: dict[Caller, list[str]] = defaultdict(list)
        for address in self._list_clients(key):
            caller = self._find_caller(address)
            same = caller._replace(pods=())
            clients[same].append(address)
            pods[same].extend(caller.pods)
            yield from self._pause(1)
        edges = {}
        for caller, addresses in clients.items():
            edges[caller] = self._build_edge(key, caller, addresses, pods[caller])
            yield from self._pause(1)
        ordered = sorted(edges, key=lambda caller: _rank(edges[caller]))
        if len(ordered) <= CALLERS_LIMIT:
            return tuple(edges[caller] for caller in ordered)
        others = Caller(OTHER)
        kept = dict.fromkeys(caller for caller in ordered[:CALLERS_LIMIT] if caller != others)
        rest = [client for caller in ordered if caller not in kept for client in clients[caller]]
        return (*(edges[caller] for caller in kept), self._build_edge(key, others, rest, []))

    def _list_clients(self, key: str) -> list[str]:
        total = self._sums.total
        found = {
            labels[0]
            for metric in (metrics.EDGES, metrics.EDGE_FAILURES, metrics.EDGE_DENIALS, metrics.EDGE_CONNECTIONS)
            for labels in total.find(metric, key)
        }
        return sorted(found)

    def _build_edge(self, key: str, caller: Caller, clients: list[str], pods: list[str]) -> EdgeTraffic:
        is_other = caller.name == OTHER
        return EdgeTraffic(
            caller=caller.name,
            account=caller.account,
            pods=tuple(sorted(set(pods))[:SHOWN_LIMIT]),
            addresses=() if is_other else tuple(clients[:SHOWN_LIMIT]),
            service=key,
            last=build_edge_window(self._sums.last, key, clients),
            total=build_edge_window(self._sums.total, key, clients),
        )

    def _find_caller(self, address: str) -> Caller:
        known = self._callers.get(address)
        if known is None:
            known = Caller(address) if address == OTHER else find_caller(self._objects, address)
            self._callers[address] = known
        return known


def _rank(edge: EdgeTraffic) -> tuple[int, int, str, str]:
    last, total = edge.last, edge.total
    return (-last.requests - last.connections, -total.requests - total.connections, edge.caller, edge.account)


def _name_pod(key: ObjectKey) -> str:
    return f"{key.namespace}/{key.name}"
