"""Builds the rules of a route as the topology has them, and finds what is wrong with them.

Takes a view and a route; returns a branch for each rule that is in force. No filter is skipped: a rule with a filter
that nothing builds answers its requests with an error, except for a mirror whose backend is invalid.
"""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from maesh_core.plugin import AnswerNode, BackendNode, BranchNode, FilterNode, ServiceNode, TopologyView
from maesh_gateway import GatewaySettings
from maesh_gateway.attaching.backends import BackendResolver
from maesh_gateway.attachments import RefProblem
from maesh_gateway.reading.filters import EXTENSION, MIRROR, REDIRECT
from maesh_gateway.routes import BackendRef, Route, RouteFilter, RouteRule, RuleProblem

GRPC_UNIMPLEMENTED = 12
SESSION = "sessionPersistence"


class ResolvedRoute(NamedTuple):
    """The branches of a route by the index of their rules, what is wrong with it, and the backends of its mirrors."""

    branches: Mapping[int, BranchNode]
    refs: tuple[RefProblem, ...]
    problems: tuple[RuleProblem, ...]
    sides: Mapping[str, BackendNode]


class RuleBuilder:
    """Builds the rules of the routes of one service."""

    def __init__(self, view: TopologyView, service: ServiceNode, settings: GatewaySettings) -> None:
        self._view = view
        self._backends = BackendResolver(view, service, settings)

    def build(self, route: Route) -> ResolvedRoute:
        """Build the rules of a route."""
        if route.faults:
            return ResolvedRoute({}, (), (), {})
        run = _RouteRun(self._view, self._backends, route)
        branches = {rule.index: branch for rule in route.rules if (branch := run.build(rule)) is not None}
        return ResolvedRoute(branches, tuple(dict.fromkeys(run.refs)), tuple(run.problems), run.sides)


class _RouteRun:
    def __init__(self, view: TopologyView, backends: BackendResolver, route: Route) -> None:
        self._view = view
        self._backends = backends
        self._route = route
        self.refs: list[RefProblem] = []
        self.problems: list[RuleProblem] = []
        self.sides: dict[str, BackendNode] = {}

    def build(self, rule: RouteRule) -> BranchNode | None:
        """Build the branch of a rule; None if the rule is dropped."""
        if rule.problem is not None:
            self.problems.append(rule.problem)
            return None if rule.problem.is_dropped else self._close(rule)
        all_filters = [*rule.filters, *(each for backend in rule.backends for each in backend.filters)]
        if missing := self._find_missing(all_filters):
            text = f"rules[{rule.index}]: no enabled plugin builds {missing}"
            self.problems.append(RuleProblem(rule=rule.index, reason="UnsupportedValue", text=text))
            return self._close(rule)
        if any(each.name == EXTENSION for each in all_filters):
            text = f"rules[{rule.index}]: the mesh has no objects that an {EXTENSION} can refer to"
            self.refs.append(RefProblem(rule=rule.index, reason="InvalidKind", text=text))
            return self._close(rule)
        filters = self._build_filters(rule, rule.filters)
        backends = tuple(self._build_backend(rule, backend) for backend in rule.backends)
        return self._make(rule, filters=filters, backends=backends, answer=self._find_answer(rule))

    def _find_missing(self, filters: list[RouteFilter]) -> str | None:
        names = dict.fromkeys(each.name for each in filters if each.name != EXTENSION)
        return next((name for name in names if not self._view.has_filter(name)), None)

    def _build_backend(self, rule: RouteRule, backend: BackendRef) -> BackendNode:
        node, problem = self._backends.resolve(self._route, rule.index, backend)
        if problem is not None:
            self.refs.append(problem)
            return node
        filters = self._build_filters(rule, backend.filters)
        return msgspec.structs.replace(node, filters=filters) if filters else node

    def _build_filters(self, rule: RouteRule, filters: tuple[RouteFilter, ...]) -> tuple[FilterNode, ...]:
        nodes = []
        for each in filters:
            if each.mirror is None:
                nodes.append(FilterNode(name=each.name, value=each.value))
            elif (name := self._add_side(rule, each.mirror)) is not None:
                nodes.append(FilterNode(name=MIRROR, value={**each.value, "backend": name}))
        return tuple(nodes)

    def _add_side(self, rule: RouteRule, mirror: BackendRef) -> str | None:
        """Add the backend of a mirror; return its name, or None if it cannot be used: requests go on without it."""
        node, problem = self._backends.resolve(self._route, rule.index, mirror)
        if problem is not None or node.port is None:
            if problem is not None:
                self.refs.append(problem)
            return None
        protocol = f"/{node.protocol}" if node.protocol else ""
        name = f"mirror/{node.service.namespace}/{node.service.name}/{node.port.number}{protocol}"
        self.sides[name] = node
        return name

    def _find_answer(self, rule: RouteRule) -> AnswerNode | None:
        if any(backend.weight for backend in rule.backends) or (rule.backends and _is_persistent(rule)):
            return None
        if any(each.name == REDIRECT for each in rule.filters):
            what = "it redirects"
        elif rule.backends:
            what = "the weights of all backends are 0"
        else:
            what = "it has no backend"
        return self._answer(rule, what, GRPC_UNIMPLEMENTED)

    def _close(self, rule: RouteRule) -> BranchNode:
        return self._make(rule, answer=self._answer(rule, "it has an error"))

    def _answer(self, rule: RouteRule, what: str, grpc_status: int | None = None) -> AnswerNode:
        return AnswerNode(
            status=500,
            reason=f"{self._route.shown}, rules[{rule.index}]: {what}",
            grpc_status=grpc_status if self._route.is_grpc else None,
        )

    def _make(
        self,
        rule: RouteRule,
        *,
        answer: AnswerNode | None,
        filters: tuple[FilterNode, ...] = (),
        backends: tuple[BackendNode, ...] = (),
    ) -> BranchNode:
        route = self._route
        return BranchNode(
            name=f"{route.kind.lower()}/{route.metadata.namespace}/{route.metadata.name}/{rule.index}",
            matches=tuple(each.match for each in rule.matches),
            backends=backends,
            filters=filters,
            answer=answer,
            keeps_shares=True,
            keeps_idle=_is_persistent(rule),
            origin=(type(route), route.key),
            label=rule.label,
        )


def _is_persistent(rule: RouteRule) -> bool:
    """Whether sessions go to the backend that they began with, even to one of weight 0 (GEP-1619)."""
    return any(each.name == SESSION for each in rule.filters)
