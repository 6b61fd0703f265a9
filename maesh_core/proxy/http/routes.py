"""A compiled router: the middlewares and servers of its requests, and its choice among branches and rules.

A route never changes after it was compiled; the routing table (routing_table.py) compiles a new one whenever something
that it depends on has changed. Exchanges in progress keep theirs.
"""

from collections.abc import Iterator
from typing import Final

from maesh_core.model.configuration import HttpRouter
from maesh_core.model.matching import Predicate, has_paths, is_ambiguous
from maesh_core.plugin_system.interfaces import BackendChoice, Response
from maesh_core.proxy.balancing.balancer import Balancer, RoundRobin
from maesh_core.proxy.balancing.division import Division
from maesh_core.proxy.balancing.kinds import ChosenBalancer
from maesh_core.proxy.http.answers import AMBIGUOUS_PATH, NO_SERVER
from maesh_core.proxy.http.messages.request_head import RequestHead
from maesh_core.proxy.http.request_counters import RouteCounters, TargetCounters
from maesh_core.proxy.http.rules import CompiledOrder
from maesh_core.proxy.http.upstreams.connection_pool import HttpServer
from maesh_core.proxy.middleware.chain import EMPTY_CHAIN, Chain

NO_SERVERS: Final[Balancer[HttpServer]] = RoundRobin(())
NO_ROUTER: Final = HttpRouter(entrypoint=0, hosts=())


class Backends:
    """The servers of a route for `choose_backend`; the same object as long as the route is."""

    __slots__ = ("choices", "servers")

    def __init__(self, balancer: Balancer[HttpServer]) -> None:
        self.servers: dict[BackendChoice, HttpServer] = {}
        parts = [(part.balancer, part.key) for part in balancer.parts] if isinstance(balancer, Division) else None
        for each, key in parts or [(balancer, "")]:
            for server in each.servers:
                self.servers[BackendChoice(part=key, server=(server.address, server.port))] = server
        self.choices = tuple(self.servers)

    def __repr__(self) -> str:
        return f"<Backends {self.choices!r}>"


class RuleSet:
    """The rules of a router, with their routes; `no_match`, `ambiguous` and `too_large` are closed routes.

    `ambiguous` is for requests whose path could be read in two ways, if a rule reads paths; `too_large` is for those
    for which the patterns of the rules would take too long.
    """

    __slots__ = ("ambiguous", "no_match", "order", "routes", "too_large")

    def __init__(
        self,
        order: CompiledOrder,
        routes: tuple["Route", ...],
        *,
        no_match: "Route",
        ambiguous: "Route",
        too_large: "Route",
    ) -> None:
        self.order = order
        self.routes = routes
        self.no_match = no_match
        self.ambiguous = ambiguous
        self.too_large = too_large

    def __repr__(self) -> str:
        return f"<RuleSet of {len(self.routes)} rules>"

    def choose(self, head: RequestHead) -> "Route":
        """Return the route of the first rule that a request matches."""
        index = self.order.find(head)
        if index >= 0:
            return self.routes[index]
        if index == self.order.too_large:
            return self.too_large
        return self.ambiguous if index == self.order.ambiguous else self.no_match


class Route:
    """A compiled router, or the target of one of its branches or rules. If `balancer` is None, it is closed.

    The answer of a closed route is `closed`. `is_chained` means that a plugin inspects its exchanges, except for
    requests for which `skips_request` returns True (`Middleware.skips_request`). `is_plain` means that no plugin does,
    and that there is nothing to choose. `has_choice` means that `choose` must be called: the first of `branches` that
    matches is used, or the rules of the client's namespace in `consumers`, or `rules`, or `fallback`. `is_path_read`
    means that some branch matches on the path.

    `is_split` means that its requests have several destinations. `division` picks one by weight; it is one of `parts`
    if these have middlewares of their own. `answers` has the responses for picked parts without a server, `answer` that
    of the route. `part` is the key of the part, if the route is the target of one. `rule` counts the requests of the
    rule, if the route is the target of one.

    `sides` has the side services, which get copies of requests, by their keys.

    `label` names the service in metrics and records, also if the route is closed and has none. `is_delivered` means
    that its requests come from other nodes, which report them.
    """

    __slots__ = (
        "_backends",
        "answer",
        "answers",
        "balancer",
        "branches",
        "chain",
        "closed",
        "consumers",
        "counters",
        "destination",
        "division",
        "fallback",
        "has_choice",
        "is_chained",
        "is_delivered",
        "is_path_read",
        "is_plain",
        "is_split",
        "key",
        "label",
        "part",
        "parts",
        "router",
        "rule",
        "rules",
        "service",
        "sides",
        "skip_count",
        "skips_request",
    )

    def __init__(
        self,
        service: str,
        *,
        balancer: Balancer[HttpServer] | None,
        counters: RouteCounters,
        chain: Chain = EMPTY_CHAIN,
        closed: Response = NO_SERVER,
        key: str = "",
        router: HttpRouter = NO_ROUTER,
        branches: tuple[tuple[Predicate, "Route"], ...] = (),
        rules: RuleSet | None = None,
        consumers: dict[str, RuleSet] | None = None,
        fallback: "Route | None" = None,
        destination: str = "",
        answer: Response = NO_SERVER,
        answers: dict[str, Response] | None = None,
        parts: dict[str, "Route"] | None = None,
        part: str = "",
        rule: TargetCounters | None = None,
        sides: dict[str, Balancer[HttpServer]] | None = None,
        is_delivered: bool = False,
    ) -> None:
        self.service = service
        self.is_delivered = is_delivered
        self.label = service or key
        self.destination = destination or service
        self.balancer = balancer
        self.counters = counters
        self.chain = chain
        self.branches = branches
        self.rules = rules
        self.consumers: dict[str, RuleSet] = consumers or {}
        self.fallback = fallback
        self.is_path_read = any(has_paths(branch.matches) for branch in router.branches)
        self.has_choice = bool(branches or rules is not None or consumers or fallback is not None)
        has_plugin = has_chooser(balancer)
        self.is_chained = bool(chain.depth) or has_plugin
        self.skips_request = chain.skips_request if not has_plugin else None
        self.skip_count = chain.skip_count if not has_plugin else None
        self.is_plain = not (self.is_chained or self.has_choice)
        self.division = balancer if isinstance(balancer, Division) else None
        self.is_split = bool(branches) or self.division is not None or self.destination != service
        self.answer = answer
        self.answers: dict[str, Response] = answers or {}
        self.parts: dict[str, Route] = parts or {}
        self.part = part
        self.rule = rule
        self._backends: Backends | None = None
        self.sides: dict[str, Balancer[HttpServer]] = sides or {}
        self.closed = closed
        self.key = key
        self.router = router

    def __repr__(self) -> str:
        return f"<Route to {self.service or self.closed.status}>"

    def choose(self, head: RequestHead, namespace: str = "") -> "Route":
        """Choose the branch or the rule for a request of a client in a namespace, which is empty if it is unknown.

        The route is closed if branches match on paths and the path is ambiguous.
        """
        rules = self.consumers.get(namespace, self.rules) if self.consumers else self.rules
        if rules is not None:
            return rules.choose(head)
        if self.fallback is not None:
            return self.fallback
        if self.is_path_read and is_ambiguous(head.target):
            return Route(
                self.service,
                balancer=None,
                counters=self.counters,
                closed=AMBIGUOUS_PATH,
                key=self.key,
                router=self.router,
            )
        for predicate, route in self.branches:
            if predicate(head):
                return route
        return self

    @property
    def backends(self) -> Backends:
        """Its servers, for `choose_backend`; built when a request first needs them."""
        backends = self._backends
        if backends is None:
            backends = self._backends = Backends(NO_SERVERS if self.balancer is None else self.balancer)
        return backends

    def pick_part(self) -> "Route":
        """Pick the part of a request by weight, if the parts have middlewares of their own."""
        picked = self.division.turns.pick() if self.division is not None else None
        return self if picked is None else self.parts.get(picked.key, self)

    def find_answer(self) -> Response:
        """Return the response to a request for which the latest pick found no server."""
        if self.division is not None and self.division.picked:
            return self.answers.get(self.division.picked, self.answer)
        return self.answer

    def list_targets(self) -> Iterator["Route"]:
        """List the routes among which `choose` and `pick_part` choose, or this one."""
        if not self.has_choice:
            yield self
            yield from self.parts.values()
            return
        if self.balancer is not None:
            yield self
        yield from (route for _, route in self.branches)
        for rules in (*(() if self.rules is None else (self.rules,)), *self.consumers.values()):
            for route in rules.routes:
                yield from route.list_targets()
        if self.fallback is not None:
            yield self.fallback

    @property
    def has_judges(self) -> bool:
        """Whether exchanges in progress are judged again when the route changes."""
        return any(route.chain.is_still_allowed for route in self.list_targets())

    def has_route(self, route: "Route") -> bool:
        """Return whether `route` is this route, or one that it chooses among."""
        return route is self or any(each is route for each in self.list_targets())

    def find_target(self, destination: str) -> "Route | None":
        """Find the route with a destination among those that requests can be routed to; None if there is none."""
        return next(
            (each for each in self.list_targets() if each.destination == destination and each.balancer is not None),
            None,
        )


def has_chooser(balancer: Balancer[HttpServer] | None) -> bool:
    """Return whether a plugin chooses among the servers, and therefore inspects the exchange."""
    if isinstance(balancer, Division):
        return any(has_chooser(part.balancer) for part in balancer.parts)
    return isinstance(balancer, ChosenBalancer)
