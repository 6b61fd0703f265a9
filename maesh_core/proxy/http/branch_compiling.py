"""Compiles a router with a service into a route to that service, or to one of its branches.

Takes the router, the compiled services and the middlewares; returns the route. Routers with rules are compiled by
rule_compiling.py.
"""

from collections.abc import Collection, Mapping

from maesh_core.model.configuration import HttpRouter
from maesh_core.model.matching import Predicate, compile_matches
from maesh_core.plugin_system.middleware import Middleware
from maesh_core.proxy.balancing.balancer import Balancer
from maesh_core.proxy.http.compiled_services import CompiledService
from maesh_core.proxy.http.request_counters import RouteCounters
from maesh_core.proxy.http.routes import NO_ROUTER, Route
from maesh_core.proxy.http.upstreams.connection_pool import HttpServer
from maesh_core.proxy.middleware.chain import Chain, compile_chain


class BranchCompiler:
    """Compiles one router. The routes of its branches share its counters, its chain and its side services.

    `guard_keys` are the keys of middlewares that decide about access.
    """

    __slots__ = ("_chain", "_counters", "_key", "_router", "_service", "_services", "_sides")

    def __init__(
        self,
        key: str,
        router: HttpRouter,
        service: str,
        *,
        services: Mapping[str, CompiledService],
        middlewares: Mapping[str, Middleware],
        counters: RouteCounters,
        guard_keys: Collection[str] = (),
    ) -> None:
        self._key, self._router, self._service = key, router, service
        self._services, self._counters = services, counters
        self._chain: Chain = compile_chain(
            [middlewares[each] for each in router.middlewares],
            [middlewares[each] for each in router.middlewares if each in guard_keys],
        )
        self._sides: dict[str, Balancer[HttpServer]] = {each: services[each].balancer for each in router.side_services}

    def __repr__(self) -> str:
        return f"<BranchCompiler of {self._key}>"

    def compile(self) -> Route:
        """Compile the router."""
        branches = tuple(
            (compile_matches(branch.matches), self._compile_target(branch.service)) for branch in self._router.branches
        )
        return self._compile_target(self._service, self._router, branches)

    def _compile_target(
        self, destination: str, router: HttpRouter = NO_ROUTER, branches: tuple[tuple[Predicate, Route], ...] = ()
    ) -> Route:
        """Compile the route to a service: that of the router, or that of a branch."""
        target = self._services[destination]
        return Route(
            self._service,
            balancer=target.balancer,
            counters=self._counters,
            chain=self._chain,
            key=self._key,
            router=router,
            branches=branches,
            destination=destination,
            sides=self._sides,
            answer=target.answer,
            answers={part.service: self._services[part.service].answer for part in target.parts},
        )
