"""Attaches routes to the ports of a service, and builds the rules of each port.

Takes a view and the node of a service; returns the rules, and what became of each parentRef. Routes in the service's
namespace are producer routes, for all clients. Routes of another namespace are consumer routes, for the clients of
theirs only; what is wrong with them never concerns the service or other clients. A port with a route is closed to
requests that no rule matches, even if no rule of the route can be used.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from maesh_core.plugin import (
    AnswerNode,
    BackendNode,
    ObjectFindings,
    ObjectKey,
    PortNode,
    PortRules,
    RuleTable,
    ServiceNode,
    TopologyView,
)
from maesh_gateway import GatewaySettings
from maesh_gateway.findings import AcceptedReason, Attachment, Attachments
from maesh_gateway.kinds import ROUTE_TYPES, ROUTES_BY_PARENT
from maesh_gateway.precedence import build_table, choose_kind
from maesh_gateway.routes import ParentRef, Route
from maesh_gateway.rules import GRPC_UNIMPLEMENTED, ResolvedRoute, RuleBuilder

PRODUCER = ""
"""The group of routes for all clients; consumer routes are grouped by their namespace."""

_Place = tuple[int, str]


class _Claim(NamedTuple):
    """A parentRef of a route, and the ports that it names; without ports, `problem` says why."""

    route: Route
    parent: ParentRef
    ports: tuple[int, ...]
    reason: AcceptedReason
    problem: str


class TableBuilder:
    """The routes of one service, for one build."""

    def __init__(self, view: TopologyView, service: ServiceNode, settings: GatewaySettings) -> None:
        self._service = service
        self._rules = RuleBuilder(view, service, settings)
        self._resolved: dict[tuple[type[Route], str, str], ResolvedRoute] = {}
        routes: list[Route] = []
        for type_ in ROUTE_TYPES:
            routes += view.find(type_, ROUTES_BY_PARENT, service.key)
        self._claims = tuple(self._claim(routes))
        self._groups = self._group()
        self._kinds = {place: choose_kind(found) for place, found in self._groups.items()}

    @property
    def has_routes(self) -> bool:
        """Whether any route names the service."""
        return bool(self._claims)

    def build_rules(self) -> dict[tuple[int, str], PortRules]:
        """Build the rules of each port that a route claims."""
        producers: dict[int, RuleTable] = {}
        consumers: dict[int, dict[str, RuleTable]] = {}
        for (port, group), routes in sorted(self._groups.items(), key=lambda each: each[0]):
            table = self._build_table(port, group, routes)
            if group == PRODUCER:
                producers[port] = table
            else:
                consumers.setdefault(port, {})[group] = table
        return {
            (port, "TCP"): PortRules(producer=producers.get(port), consumers=consumers.get(port, {}))
            for port in sorted({*producers, *consumers})
        }

    def build_sides(self) -> dict[tuple[int, str], Mapping[str, BackendNode]]:
        """Build the backends of mirrors, by port."""
        sides: dict[tuple[int, str], dict[str, BackendNode]] = {}
        for (port, group), routes in sorted(self._groups.items(), key=lambda each: each[0]):
            for route in self._list_used(port, group, routes):
                found = self._resolve(route).sides
                if found:
                    sides.setdefault((port, "TCP"), {}).update(found)
        return {place: dict(sorted(found.items())) for place, found in sides.items()}

    def build_attachments(self) -> Attachments:
        """Build what became of each parentRef."""
        return Attachments(routes=tuple(map(self._judge, self._claims)))

    def list_objects(self, attachments: Attachments) -> tuple[ObjectFindings, ...]:
        """List the routes with what is wrong with them on this service; faults are reported where they are read."""
        found: dict[tuple[type[Route], ObjectKey], list[str]] = {}
        for claim, each in zip(self._claims, attachments.routes, strict=True):
            route = claim.route
            found.setdefault((type(route), route.key), []).extend(_list_texts(each, has_faults=bool(route.faults)))
        return tuple(
            ObjectFindings(type=type_, key=key, errors=tuple(dict.fromkeys(texts)))
            for (type_, key), texts in found.items()
        )

    def list_notices(self, attachments: Attachments) -> tuple[str, ...]:
        """List what is wrong with producer routes, for the service itself."""
        return tuple(
            f"{each.kind} {each.name}: {text}"
            for each in attachments.routes
            if each.namespace == self._service.key.namespace
            for text in _list_texts(each, has_faults=False)
        )

    # --- claims

    def _claim(self, routes: Sequence[Route]) -> Iterator[_Claim]:
        for route in routes:
            for parent in route.parents:
                if parent.service != self._service.key:
                    continue
                if parent.problem:
                    yield _Claim(route, parent, (), "UnsupportedValue", parent.problem)
                    continue
                ports, problem = select_ports(self._service, parent)
                yield _Claim(route, parent, ports, "NoMatchingParent" if problem else "", problem)

    def _group(self) -> dict[_Place, list[Route]]:
        """Group the routes by port, and by namespace if they are consumer routes."""
        groups: dict[_Place, list[Route]] = {}
        for claim in self._claims:
            for port in claim.ports:
                routes = groups.setdefault((port, self._find_group(claim.route)), [])
                if all(route is not claim.route for route in routes):
                    routes.append(claim.route)
        return groups

    def _find_group(self, route: Route) -> str:
        namespace = route.metadata.namespace
        return PRODUCER if namespace == self._service.key.namespace else namespace

    # --- tables

    def _list_used(self, port: int, group: str, routes: Sequence[Route]) -> list[Route]:
        kind = self._kinds[port, group]
        return [route for route in routes if type(route) is kind]

    def _build_table(self, port: int, group: str, routes: Sequence[Route]) -> RuleTable:
        used = self._list_used(port, group, routes)
        is_grpc = used[0].is_grpc
        no_match = AnswerNode(
            status=404,
            reason=f"no rule of {'a GRPCRoute' if is_grpc else 'an HTTPRoute'} matches",
            grpc_status=GRPC_UNIMPLEMENTED if is_grpc else None,
        )
        return build_table([(route, self._resolve(route).branches) for route in used], no_match)

    def _resolve(self, route: Route) -> ResolvedRoute:
        place = (type(route), *route.key)
        if place not in self._resolved:
            self._resolved[place] = self._rules.build(route)
        return self._resolved[place]

    # --- verdicts

    def _judge(self, claim: _Claim) -> Attachment:
        route = claim.route
        resolved = self._resolve(route)
        group = self._find_group(route)
        used = tuple(port for port in claim.ports if self._kinds[port, group] is type(route))
        reason, message = self._find_refusal(claim, used, resolved)
        is_known = reason != "NoMatchingParent"
        return Attachment(
            kind=route.kind,
            namespace=route.metadata.namespace,
            name=route.metadata.name,
            parent=claim.parent.index,
            ports=used,
            reason=reason,
            message=message,
            refs=resolved.refs if is_known else (),
            rules=resolved.problems,
        )

    def _find_refusal(self, claim: _Claim, used: Sequence[int], resolved: ResolvedRoute) -> tuple[AcceptedReason, str]:
        """Find why a parentRef is not accepted; empty if it is."""
        route = claim.route
        if claim.problem:
            return claim.reason, claim.problem
        if route.faults:
            return "UnsupportedValue", "; ".join(route.faults)
        if resolved.problems and len(resolved.problems) == len(route.rules):
            return resolved.problems[0].reason, resolved.problems[0].text
        if not used:
            kind = self._kinds[claim.ports[0], self._find_group(route)]
            shown = kind.kind if kind is not None else ""
            return "Conflicted", f"a {shown} is attached to the same port of {self._service.key.name}"
        return "", ""


def _list_texts(attachment: Attachment, *, has_faults: bool) -> Iterator[str]:
    if attachment.reason in ("NoMatchingParent", "Conflicted") or (attachment.reason and not attachment.rules):
        if not has_faults:
            yield attachment.message
        if attachment.reason == "NoMatchingParent":
            return
    yield from (problem.text for problem in attachment.rules)
    yield from (problem.text for problem in attachment.refs)


def select_ports(service: ServiceNode, parent: ParentRef) -> tuple[tuple[int, ...], str]:
    """Select the ports of a service that a parentRef names; without any, the text says why."""
    name = service.key.name
    named = [
        port
        for port in service.ports
        if port.protocol == "TCP"
        and parent.port in (None, port.number)
        and (not parent.section or parent.section == port.name)
    ]
    if not named:
        wanted = [f"number {parent.port}"] if parent.port is not None else []
        wanted += [f"name {parent.section!a}"] if parent.section else []
        return (), f"Service {name} has no TCP port" + (f" with {' and '.join(wanted)}" if wanted else "")
    found = tuple(port.number for port in named if _is_http(service, port))
    if not found:
        return (), f"port {named[0].number} of Service {name} does not have the traffic type http"
    return found, ""


def _is_http(service: ServiceNode, port: PortNode) -> bool:
    return (port.traffic_type or service.traffic_type) == "http"
