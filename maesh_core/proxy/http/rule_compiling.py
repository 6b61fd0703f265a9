"""Compiles a router with rules into a route that chooses among the routes of its rules.

Takes the router, the compiled services and the middlewares; returns the route. Equal matches of the former route are
used again, because a change of servers compiles all routers of a service.
"""

from collections.abc import Collection, Mapping, Sequence

from maesh_core.model.configuration import HttpRouter, HttpRules
from maesh_core.plugin_system.interfaces import Response
from maesh_core.plugin_system.middleware import Middleware
from maesh_core.proxy.balancing.balancer import Balancer
from maesh_core.proxy.http.answers import AMBIGUOUS_PATH, CLOSED, NO_RULE, NO_SERVER, TOO_LARGE_FOR_RULES
from maesh_core.proxy.http.compiled_services import CompiledService
from maesh_core.proxy.http.request_counters import RouteCounters, TargetCounters
from maesh_core.proxy.http.routes import Route, RuleSet
from maesh_core.proxy.http.rules import compile_order
from maesh_core.proxy.http.upstreams.connection_pool import HttpServer
from maesh_core.proxy.middleware.chain import EMPTY_CHAIN, Chain, compile_chain


class RuleCompiler:
    """Compiles one router. The routes of its rules share the router's counters, and its side services.

    `guard_keys` are the keys of middlewares that decide about access.
    """

    __slots__ = ("_chains", "_counters", "_guard_keys", "_key", "_middlewares", "_router", "_services", "_sides")

    def __init__(
        self,
        key: str,
        router: HttpRouter,
        *,
        services: Mapping[str, CompiledService],
        middlewares: Mapping[str, Middleware],
        counters: RouteCounters,
        guard_keys: Collection[str] = (),
    ) -> None:
        self._key, self._router = key, router
        self._services, self._middlewares = services, middlewares
        self._counters, self._guard_keys = counters, guard_keys
        self._sides: dict[str, Balancer[HttpServer]] = {each: services[each].balancer for each in router.side_services}
        self._chains: dict[tuple[str, ...], Chain] = {}

    def __repr__(self) -> str:
        return f"<RuleCompiler of {self._key}>"

    def compile(self, former: Route | None) -> Route:
        """Compile the router; `former` is its route in the previous table."""
        router = self._router
        rules = None
        if router.rules is not None:
            rules = self._compile_rules(router.rules, former.rules if former is not None else None)
        known = former.consumers if former is not None else {}
        # Those of the former router count until the new table is applied, which may not happen.
        self._counters.keep_rules(_list_rules(router) | (_list_rules(former.router) if former is not None else set()))
        return Route(
            self._key,
            balancer=None,
            counters=self._counters,
            closed=Response(status=404, reason=CLOSED),
            key=self._key,
            router=router,
            rules=rules,
            consumers={
                namespace: self._compile_rules(each, known.get(namespace))
                for namespace, each in router.consumers.items()
            },
            fallback=None if router.fallback is None else self._compile_target(router.fallback, router.middlewares),
        )

    def _compile_rules(self, rules: HttpRules, former: RuleSet | None) -> RuleSet:
        return RuleSet(
            compile_order(rules, former.order if former is not None else None),
            tuple(self._compile_target(rule.service, rule.middlewares, is_rule=True) for rule in rules.rules),
            no_match=self._close(Response(status=rules.status, reason=rules.reason or NO_RULE)),
            ambiguous=self._close(AMBIGUOUS_PATH),
            too_large=self._close(TOO_LARGE_FOR_RULES),
        )

    def _compile_target(self, key: str, middlewares: Sequence[str], *, is_rule: bool = False) -> Route:
        """Compile the route to a service; without one, a closed route."""
        if not key:
            return self._close(NO_SERVER)
        service = self._services[key]
        counters = self._counters.find_rule(key) if is_rule else None
        parts: dict[str, Route] = {}
        if any(part.middlewares for part in service.parts):
            parts = {
                part.service: self._compile_part(key, part.service, part.middlewares or tuple(middlewares), counters)
                for part in service.parts
            }
        return Route(
            self._key,
            balancer=service.balancer,
            counters=self._counters,
            chain=self._compile_chain(tuple(middlewares)),
            key=self._key,
            destination=key,
            answer=service.answer,
            answers={part.service: self._services[part.service].answer for part in service.parts},
            parts=parts,
            rule=counters,
            sides=self._sides,
        )

    def _compile_part(
        self, key: str, part: str, middlewares: tuple[str, ...], counters: TargetCounters | None
    ) -> Route:
        """Compile the route to a part that has middlewares of its own; access is decided about the whole."""
        service = self._services[part]
        return Route(
            self._key,
            balancer=service.balancer,
            counters=self._counters,
            chain=self._compile_chain(middlewares),
            key=self._key,
            destination=key,
            answer=service.answer,
            part=part,
            rule=counters,
            sides=self._sides,
        )

    def _close(self, answer: Response) -> Route:
        return Route(self._key, balancer=None, counters=self._counters, closed=answer, key=self._key)

    def _compile_chain(self, keys: tuple[str, ...]) -> Chain:
        if not keys:
            return EMPTY_CHAIN
        chain = self._chains.get(keys)
        if chain is None:
            guards = [self._middlewares[key] for key in keys if key in self._guard_keys]
            chain = self._chains[keys] = compile_chain([self._middlewares[key] for key in keys], guards)
        return chain


def _list_rules(router: HttpRouter) -> set[str]:
    """List the keys of the services of a router's rules."""
    tables = (*(() if router.rules is None else (router.rules,)), *router.consumers.values())
    return {rule.service for table in tables for rule in table.rules}
