"""Which routes claim which ports of a service, and which kind of them each port uses.

Takes the node of a service and the routes that name it. Routes in the service's namespace are producer routes, for all
clients. Routes of another namespace are consumer routes, for the clients of theirs only. For a port whose traffic type
nothing else decides, the producer routes decide it, too; consumer routes change nothing for other clients.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from maesh_core.plugin import ConfigurationError, PortNode, ServiceNode, find_chosen_traffic_type
from maesh_gateway.attaching.precedence import choose_kind
from maesh_gateway.attachments import AcceptedReason
from maesh_gateway.routes import ParentRef, Route

PRODUCER = ""
"""The group of routes for all clients; consumer routes are grouped by their namespace."""

RULES_LIMIT = 1000
MATCHES_LIMIT = 4000
"""Limits of all routes of one group on one port: those of the rules of a port, which would be closed otherwise."""
PATTERNS_LIMIT = 1000
"""The same for regular expressions, because of their memory in each worker: some 10 kB, or more for large ones."""
BYTES_LIMIT = 256 * 1024
"""The same for the bytes of all rules: each port of each parent has its copy of them in the configuration."""

PortId = tuple[int, str]
"""Number and protocol of a port."""


class Claim(NamedTuple):
    """A parentRef of a route, and the ports that it names; without ports, `problem` says why."""

    route: Route
    parent: ParentRef
    port_ids: tuple[PortId, ...] = ()
    reason: AcceptedReason = ""
    problem: str = ""


class Claims:
    """The claims on the ports of one service, in the order of the routes and of their parents.

    `groups` are the routes of each port and group, of all kinds. `kinds` is the kind that each of them uses, and `used`
    its routes, the oldest first. At a limit, the youngest are left out, so that a new route cannot harm older ones.
    """

    def __init__(self, service: ServiceNode, routes: Sequence[Route]) -> None:
        self._service = service
        self._ports = {(port.number, port.protocol): port for port in service.ports}
        self.groups: dict[tuple[PortId, str], list[Route]] = {}
        self.kinds: dict[tuple[PortId, str], type[Route] | None] = {}
        self.used: dict[tuple[PortId, str], list[Route]] = {}
        self._used_ids: dict[tuple[PortId, str], set[int]] = {}
        claims = tuple(self._read(routes))
        for claim in claims:
            if self.find_group(claim.route) == PRODUCER:
                self._add(claim)
        self._choose()
        types = self.build_traffic_types()
        self.items = tuple(self._limit(claim, types) for claim in claims)
        for claim in self.items:
            if self.find_group(claim.route) != PRODUCER:
                self._add(claim)
        self._choose()

    def find_group(self, route: Route) -> str:
        """Find the group of a route."""
        namespace = route.metadata.namespace
        return PRODUCER if namespace == self._service.key.namespace else namespace

    def list_used_ports(self, claim: Claim) -> list[PortId]:
        """List the ports of a claim that use its route."""
        group = self.find_group(claim.route)
        return [port_id for port_id in claim.port_ids if id(claim.route) in self._used_ids[port_id, group]]

    def build_traffic_types(self) -> dict[PortId, str]:
        """Build the traffic types that producer routes decide."""
        return {
            port_id: kind.traffic_type
            for (port_id, group), kind in self.kinds.items()
            if group == PRODUCER and kind is not None and self._find_type(port_id) != kind.traffic_type
        }

    def _read(self, routes: Sequence[Route]) -> Iterator[Claim]:
        for route in routes:
            for parent in route.parents:
                if parent.service != self._service.key:
                    continue
                if parent.problem:
                    yield Claim(route, parent, (), "UnsupportedValue", parent.problem)
                    continue
                port_ids, problem = select_ports(self._service, parent, type(route))
                yield Claim(route, parent, port_ids, "NoMatchingParent" if problem else "", problem)

    def _limit(self, claim: Claim, types: Mapping[PortId, str]) -> Claim:
        """Limit the claim of a consumer route to ports that have its traffic type for all clients."""
        if self.find_group(claim.route) == PRODUCER or not claim.port_ids:
            return claim
        wanted = claim.route.traffic_type
        port_ids = tuple(each for each in claim.port_ids if types.get(each, self._find_type(each)) == wanted)
        if port_ids:
            return claim._replace(port_ids=port_ids)
        problem = _describe_type(self._service, self._ports[claim.port_ids[0]], wanted)
        return claim._replace(port_ids=(), reason="NoMatchingParent", problem=problem)

    def _add(self, claim: Claim) -> None:
        for port_id in claim.port_ids:
            routes = self.groups.setdefault((port_id, self.find_group(claim.route)), [])
            if not (routes and routes[-1] is claim.route):  # the claims of a route follow each other
                routes.append(claim.route)

    def _choose(self) -> None:
        for use, found in self.groups.items():
            kind = self.kinds[use] = choose_kind(found)
            self.used[use] = _limit_routes([route for route in found if type(route) is kind])
            self._used_ids[use] = set(map(id, self.used[use]))

    def _find_type(self, port_id: PortId) -> str | None:
        return find_traffic_type(self._service, self._ports[port_id])


def _limit_routes(routes: Sequence[Route]) -> list[Route]:
    """Sort routes by age, and leave out those that exceed a limit."""
    used = []
    free = (RULES_LIMIT, MATCHES_LIMIT, PATTERNS_LIMIT, BYTES_LIMIT)
    for route in sorted(routes, key=lambda route: route.age_key):
        matches = [match for rule in route.rules for match in rule.matches]
        patterns, size = sum(match.patterns for match in matches), sum(rule.size for rule in route.rules)
        rest = (free[0] - len(route.rules), free[1] - len(matches), free[2] - patterns, free[3] - size)
        if min(rest) >= 0:
            free = rest
            used.append(route)
    return used


def select_ports(service: ServiceNode, parent: ParentRef, type_: type[Route]) -> tuple[tuple[PortId, ...], str]:
    """Select the ports of a service that a parentRef of a route names; without any, the text says why."""
    name = service.key.name
    named = [
        port
        for port in service.ports
        if port.protocol == type_.protocol
        and parent.port in (None, port.number)
        and (not parent.section or parent.section == port.name)
    ]
    if not named:
        wanted = [f"number {parent.port}"] if parent.port is not None else []
        wanted += [f"name {parent.section!a}"] if parent.section else []
        text = f" with {' and '.join(wanted)}" if wanted else ""
        return (), f"Service {name} has no {type_.protocol} port{text}"
    found = tuple((port.number, port.protocol) for port in named if can_have_type(service, port, type_.traffic_type))
    return found, "" if found else _describe_type(service, named[0], type_.traffic_type)


def can_have_type(service: ServiceNode, port: PortNode, traffic_type: str) -> bool:
    """Whether a port has a traffic type, or nothing decides which one it has."""
    if find_traffic_type(service, port) == traffic_type:
        return True
    if service.traffic_type is None:
        return False
    try:
        return find_chosen_traffic_type(service.annotations, port) is None
    except ConfigurationError:  # it is an error of the service already
        return False


def find_traffic_type(service: ServiceNode, port: PortNode) -> str | None:
    """Find the traffic type that a port has without its routes."""
    return port.traffic_type or service.traffic_type


def _describe_type(service: ServiceNode, port: PortNode, wanted: str) -> str:
    found = find_traffic_type(service, port)
    return f"port {port.number} of Service {service.key.name} has the traffic type {found}, not {wanted}"
