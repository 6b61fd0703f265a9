"""Attaches routes to the ports of a service, and builds the rules of each port.

Takes a view and the node of a service; returns the rules, and what became of each parentRef. A port with a route is
closed to requests that no rule matches, even if no rule of the route can be used. What is wrong with a consumer route
never concerns the service or other clients.
"""

from collections.abc import Iterator, Mapping, Sequence

from maesh_core.plugin import (
    AnswerNode,
    BackendNode,
    ObjectFindings,
    ObjectKey,
    PortRules,
    RuleTable,
    ServiceNode,
    TopologyView,
)
from maesh_gateway import GatewaySettings
from maesh_gateway.attaching.claims import MATCHES_LIMIT, PATTERNS_LIMIT, PRODUCER, RULES_LIMIT, Claim, Claims, PortId
from maesh_gateway.attaching.precedence import build_table
from maesh_gateway.attaching.rules import GRPC_UNIMPLEMENTED, ResolvedRoute, RuleBuilder
from maesh_gateway.attachments import AcceptedReason, Attachment
from maesh_gateway.kinds import ROUTE_TYPES, ROUTES_BY_PARENT
from maesh_gateway.routes import Route


class TableBuilder:
    """The routes of one service, for one build."""

    def __init__(self, view: TopologyView, service: ServiceNode, settings: GatewaySettings) -> None:
        self._service = service
        self._rules = RuleBuilder(view, service, settings)
        self._resolved: dict[tuple[type[Route], str, str], ResolvedRoute] = {}
        routes: list[Route] = []
        for type_ in ROUTE_TYPES:
            routes += view.find(type_, ROUTES_BY_PARENT, service.key)
        self._claims = Claims(service, routes)

    @property
    def has_routes(self) -> bool:
        """Whether any route names the service."""
        return bool(self._claims.items)

    def build_rules(self) -> dict[PortId, PortRules]:
        """Build the rules of each port that a route claims."""
        producers: dict[PortId, RuleTable] = {}
        consumers: dict[PortId, dict[str, RuleTable]] = {}
        for port_id, group in sorted(self._claims.groups):
            table = self._build_table(port_id, group)
            if group == PRODUCER:
                producers[port_id] = table
            else:
                consumers.setdefault(port_id, {})[group] = table
        return {
            port_id: PortRules(producer=producers.get(port_id), consumers=consumers.get(port_id, {}))
            for port_id in sorted({*producers, *consumers})
        }

    def build_sides(self) -> dict[PortId, Mapping[str, BackendNode]]:
        """Build the backends of mirrors, by port."""
        sides: dict[PortId, dict[str, BackendNode]] = {}
        for port_id, group in sorted(self._claims.groups):
            for route in self._claims.used[port_id, group]:
                found = self._resolve(route).sides
                if found:
                    sides.setdefault(port_id, {}).update(found)
        return {port_id: dict(sorted(found.items())) for port_id, found in sides.items()}

    def build_traffic_types(self) -> dict[PortId, str]:
        """Build the traffic types of ports for which nothing else decides."""
        return self._claims.build_traffic_types()

    def build_attachments(self) -> tuple[Attachment, ...]:
        """Build what became of each parentRef, in order."""
        return tuple(map(self._judge, self._claims.items))

    def list_objects(self, attachments: Sequence[Attachment]) -> tuple[ObjectFindings, ...]:
        """List the routes with what is wrong with them on this service; faults are reported where they are read."""
        found: dict[tuple[type[Route], ObjectKey], tuple[list[str], list[str]]] = {}
        for claim, each in zip(self._claims.items, attachments, strict=True):
            route = claim.route
            errors, notices = found.setdefault((type(route), route.key), ([], []))
            errors += _list_texts(each, has_faults=bool(route.faults))
            notices += [] if each.reason else self._list_lost_ports(claim)
        return tuple(
            ObjectFindings(
                type=type_, key=key, errors=tuple(dict.fromkeys(errors)), notices=tuple(dict.fromkeys(notices))
            )
            for (type_, key), (errors, notices) in found.items()
        )

    def _list_lost_ports(self, claim: Claim) -> Iterator[str]:
        """List the ports of an accepted claim that use another kind."""
        group = self._claims.find_group(claim.route)
        for port_id in claim.port_ids:
            kind = self._claims.kinds[port_id, group]
            if kind is not type(claim.route):
                name = self._service.key.name
                yield f"it has no effect on port {port_id[0]} of {name}, which uses {_show_kind(kind)}"

    def list_notices(self, attachments: Sequence[Attachment]) -> tuple[str, ...]:
        """List what is wrong with producer routes, for the service itself."""
        return tuple(
            f"{each.kind} {each.name}: {text}"
            for each in attachments
            if each.namespace == self._service.key.namespace
            for text in _list_texts(each, has_faults=False)
        )

    # --- tables

    def _build_table(self, port_id: PortId, group: str) -> RuleTable:
        kind = self._claims.kinds[port_id, group]
        is_grpc = kind is not None and kind.is_grpc
        no_match = AnswerNode(
            status=404,
            reason=f"no rule of {_show_kind(kind)} matches",
            grpc_status=GRPC_UNIMPLEMENTED if is_grpc else None,
        )
        return build_table(
            [(route, self._resolve(route).branches) for route in self._claims.used[port_id, group]], no_match
        )

    def _resolve(self, route: Route) -> ResolvedRoute:
        identity = (type(route), *route.key)
        if identity not in self._resolved:
            self._resolved[identity] = self._rules.build(route)
        return self._resolved[identity]

    # --- verdicts

    def _judge(self, claim: Claim) -> Attachment:
        route = claim.route
        used = self._claims.list_used_ports(claim)
        resolved = self._resolve(route) if used else ResolvedRoute({}, (), route.problems, {})
        reason, message = self._find_refusal(claim, resolved, is_used=bool(used))
        return Attachment(
            kind=route.kind,
            namespace=route.metadata.namespace,
            name=route.metadata.name,
            parent=claim.parent.index,
            ports=tuple(number for number, _ in used),
            reason=reason,
            message=message,
            refs=resolved.refs,
            rules=resolved.problems,
        )

    def _find_refusal(self, claim: Claim, resolved: ResolvedRoute, *, is_used: bool) -> tuple[AcceptedReason, str]:
        """Find why a parentRef is not accepted; empty if it is."""
        route = claim.route
        if claim.problem:
            return claim.reason, claim.problem
        if route.faults:
            return "UnsupportedValue", "; ".join(route.faults)
        if resolved.problems and len(resolved.problems) == len(route.rules):
            return resolved.problems[0].reason, resolved.problems[0].text
        if is_used:
            return "", ""
        port_id = claim.port_ids[0]
        kind = self._claims.kinds[port_id, self._claims.find_group(route)]
        if kind is type(route):
            limits = f"{RULES_LIMIT} rules, {MATCHES_LIMIT} matches, {PATTERNS_LIMIT} regular expressions or 256 KiB"
            return "UnsupportedValue", f"with older routes, port {port_id[0]} would have more than {limits}"
        return "Conflicted", f"{_show_kind(kind)} is attached to the same port of {self._service.key.name}"


def _list_texts(attachment: Attachment, *, has_faults: bool) -> Iterator[str]:
    if attachment.reason in ("NoMatchingParent", "Conflicted") or (attachment.reason and not attachment.rules):
        if not has_faults:
            yield attachment.message
        if attachment.reason == "NoMatchingParent":
            return
    yield from (problem.text for problem in attachment.rules)
    yield from (problem.text for problem in attachment.refs)


def _show_kind(kind: type[Route] | None) -> str:
    """Show a kind with its article."""
    name = "route" if kind is None else kind.kind
    return f"an {name}" if name.startswith("H") else f"a {name}"
