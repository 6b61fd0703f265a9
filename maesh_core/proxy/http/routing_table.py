"""The HTTP routing table: maps entrypoint and host to a route, compiled from routers and services.

It refers to servers, but not to exchanges. Building a table changes nothing else: it shares the servers of the current
table, which keep their pooled connections. A delta copies the dicts and compiles only what changed. Applying a table is
one assignment; exchanges in progress keep their route.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from maesh_core.model.configuration import HttpRouter, Part, Section, Service, list_targets
from maesh_core.model.matching import Predicate, compile_matches, has_paths, is_ambiguous
from maesh_core.plugin_system.interfaces import Response
from maesh_core.plugin_system.middleware import Middleware
from maesh_core.proxy.balancing.balancer import AnyBalancer, Balancer
from maesh_core.proxy.balancing.division import DividedPart, Division
from maesh_core.proxy.balancing.kinds import BalancerKinds, ChosenBalancer
from maesh_core.proxy.http.answers import AMBIGUOUS_PATH, CLOSED, NO_SERVER
from maesh_core.proxy.http.messages.request_head import RequestHead
from maesh_core.proxy.http.request_counters import RouteCounters
from maesh_core.proxy.http.upstreams.connection_pool import HttpServer
from maesh_core.proxy.http.upstreams.server_key import ServerKey
from maesh_core.proxy.middleware.chain import EMPTY_CHAIN, Chain, compile_chain

GetServer = Callable[[ServerKey], HttpServer]
Claim = tuple[int, bytes]
Claimants = dict[Claim, set[str]]
"""While a table is built: the hosts to decide, and the keys of the routers that claim each."""
_NO_ROUTER: Final = HttpRouter(entrypoint=0, hosts=())


class Route:
    """A compiled router. If `balancer` is None, it is closed, and `closed` is the answer.

    `is_chained` means that a plugin inspects its exchanges. `is_plain` means that no plugin does, and that there are no
    branches. `is_split` means that its requests have several destinations, of which `division` picks one by weight.
    Otherwise the first of `branches` that matches the request is used; `is_path_read` means that some branch
    matches on the path. `label` names the service in metrics and records, also if the route is closed and has none.
    """

    __slots__ = (
        "balancer",
        "branches",
        "chain",
        "closed",
        "counters",
        "destination",
        "division",
        "is_chained",
        "is_path_read",
        "is_plain",
        "is_split",
        "key",
        "label",
        "router",
        "service",
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
        router: HttpRouter = _NO_ROUTER,
        branches: tuple[tuple[Predicate, "Route"], ...] = (),
        destination: str = "",
    ) -> None:
        self.service = service
        self.label = service or key
        self.destination = destination or service
        self.balancer = balancer
        self.counters = counters
        self.chain = chain
        self.branches = branches
        self.is_path_read = any(has_paths(branch.matches) for branch in router.branches)
        self.is_chained = bool(chain.depth) or has_chooser(balancer)
        self.is_plain = not (self.is_chained or branches)
        self.division = balancer if isinstance(balancer, Division) else None
        self.is_split = bool(branches) or self.division is not None or self.destination != service
        self.closed = closed
        self.key = key
        self.router = router

    def __repr__(self) -> str:
        return f"<Route to {self.service or self.closed.status}>"

    def choose(self, head: RequestHead) -> "Route":
        """Choose the branch for a request; close the route if branches match on paths and the path is ambiguous."""
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

    def has_route(self, route: "Route") -> bool:
        """Return whether `route` is this route or one of its branches."""
        return route is self or any(branch is route for _, branch in self.branches)

    def has_destination(self, destination: str) -> bool:
        """Return whether requests can be routed to a destination: the service itself, or one of its branches."""
        return destination == self.destination or any(route.destination == destination for _, route in self.branches)


AnyServiceBalancer = AnyBalancer[HttpServer] | ChosenBalancer[HttpServer] | Division[HttpServer]


class CompiledService(NamedTuple):
    """A service: its servers and their weights, its balancer, and the keys of the routers that use it."""

    servers: tuple[tuple[HttpServer, int], ...]
    balancer: AnyServiceBalancer
    users: frozenset[str]
    parts: tuple[Part, ...] = ()


class HttpTable:
    """Maps the hosts of each entrypoint to routes. `gained` and `lost` list changes compared to the previous table.

    A change copies these dicts, so there are few of them, with one value per key. `contested` contains only hosts with
    several claimants, whose keys are sorted. `has_lost_judges` means that a host whose route judges exchanges in
    progress now has another route or none.
    """

    __slots__ = (
        "contested",
        "counters",
        "divided",
        "gained",
        "has_lost_judges",
        "hosts",
        "lost",
        "routes",
        "services",
    )

    def __init__(self, base: "HttpTable | None" = None) -> None:
        self.routes: dict[str, Route] = dict(base.routes) if base else {}
        self.services: dict[str, CompiledService] = dict(base.services) if base else {}
        self.hosts: dict[int, dict[bytes, Route]] = dict(base.hosts) if base else {}
        self.contested: dict[Claim, tuple[str, ...]] = dict(base.contested) if base else {}
        self.counters: dict[str, RouteCounters] = dict(base.counters) if base else {}
        self.divided: dict[str, frozenset[str]] = dict(base.divided) if base else {}
        """For each service that is part of other services, the keys of those services."""
        self.gained: list[HttpServer] = []
        self.lost: list[HttpServer] = []
        self.has_lost_judges = False

    def __repr__(self) -> str:
        return f"<HttpTable routers={len(self.routes)} services={len(self.services)}>"

    def find(self, entrypoint: int, host: bytes) -> Route | None:
        """Return the route of a host; None if there is none."""
        hosts = self.hosts.get(entrypoint)
        return hosts.get(host) if hosts is not None else None

    @property
    def keys(self) -> frozenset[str]:
        """The keys of all routers and services."""
        return frozenset(self.routes) | frozenset(self.services)

    # --- building: only build_table() calls these methods, before the table is used

    def set_service(
        self, key: str, service: Service | None, *, get_server: GetServer, balancers: BalancerKinds
    ) -> None:
        """Add, replace or (None) remove a service; its balancer continues its rotation."""
        former = self.services.pop(key, None)
        if former is not None:
            self.lost += [server for server, _ in former.servers]
            for part in former.parts:
                self.divided[part.service] = self.divided.get(part.service, frozenset()) - {key}
                if not self.divided[part.service]:
                    del self.divided[part.service]
        if service is None:
            return
        users = former.users if former else frozenset()
        if service.parts:
            self.services[key] = self._divide(key, service, former, users)
            return
        servers = tuple(
            (get_server(ServerKey(service.scheme, server.address, server.port, server.tls_name)), server.weight)
            for server in service.servers
        )
        self.gained += [server for server, _ in servers]
        before = former.balancer if former is not None and not isinstance(former.balancer, Division) else None
        balancer = balancers.build(servers, service, former=before)
        self.services[key] = CompiledService(servers, balancer, users)

    def _divide(
        self, key: str, service: Service, former: CompiledService | None, users: frozenset[str]
    ) -> CompiledService:
        parts = []
        for part in service.parts:
            found = self.services.get(part.service)
            if found is None or found.parts:  # the controller's configuration is invalid; its routers are refused
                continue
            servers = [server for server, _ in found.servers]
            parts.append((DividedPart(part.service, found.balancer, servers), part.weight))
            self.divided[part.service] = self.divided.get(part.service, frozenset()) | {key}
        before = former.balancer if former is not None and isinstance(former.balancer, Division) else None
        return CompiledService((), Division(parts, former=before), users, service.parts)

    def list_divided(self, keys: Iterable[str]) -> set[str]:
        """Return the services that include any of these services as a part."""
        return {each for key in keys for each in self.divided.get(key, ())}

    def drop_router(self, key: str, claimants: Claimants) -> None:
        """Remove a router and its claims."""
        route = self.routes.pop(key, None)
        if route is None:
            return
        for name in list_targets(route.router):
            service = self.services.get(name)
            if service is not None:
                self.services[name] = service._replace(users=service.users - {key})
        for claim in _list_claims(route.router):
            self._read_claimants(claim, claimants).discard(key)

    def add_router(
        self, key: str, router: HttpRouter, middlewares: Mapping[str, Middleware], claimants: Claimants
    ) -> None:
        """Add a router and its claims."""
        self.routes[key] = self._compile(key, router, middlewares)
        for name in list_targets(router):
            service = self.services[name]
            self.services[name] = service._replace(users=service.users | {key})
        for claim in _list_claims(router):
            self._read_claimants(claim, claimants).add(key)

    def _read_claimants(self, claim: Claim, claimants: Claimants) -> set[str]:
        found = claimants.get(claim)
        if found is None:
            route = self.find(*claim)
            found = claimants[claim] = set(self.contested.get(claim, (route.key,) if route is not None else ()))
        return found

    def assign_hosts(self, claimants: Claimants) -> None:
        """Assign each host in `claimants` to the router with the lowest key; remove hosts without a claimant."""
        fresh: dict[int, dict[bytes, Route]] = {}
        for claim, keys in claimants.items():
            entrypoint, host = claim
            if entrypoint not in fresh:
                fresh[entrypoint] = self.hosts[entrypoint] = dict(self.hosts.get(entrypoint, {}))
            former = fresh[entrypoint].pop(host, None)
            if keys:
                fresh[entrypoint][host] = self.routes[min(keys)]
            if former is not None and former.chain.is_still_allowed:
                self.has_lost_judges |= fresh[entrypoint].get(host) is not former
            if len(keys) > 1:
                self.contested[claim] = tuple(sorted(keys))
            else:
                self.contested.pop(claim, None)

    def count_aside(self) -> dict[str, int]:
        """Return the number of servers that are set aside, by service."""
        return {
            key: sum(server.aside is not None for server, _ in service.servers)
            for key, service in self.services.items()
        }

    def list_users(self, services: Iterable[str]) -> set[str]:
        """Return the keys of the routers that use any of these services."""
        return {router for key in services if key in self.services for router in self.services[key].users}

    def drop_unused_counters(self, keys: Iterable[str]) -> None:
        """Remove the counters of routers that no longer exist."""
        for key in keys:
            if key not in self.routes and not self.list_users((key,)):
                self.counters.pop(key, None)

    def _compile(self, key: str, router: HttpRouter, middlewares: Mapping[str, Middleware]) -> Route:
        counters = self.counters.setdefault(router.service or key, RouteCounters())
        if router.service is None:
            closed = Response(status=router.status, reason=router.reason or CLOSED)
            return Route("", balancer=None, counters=counters, closed=closed, key=key, router=router)
        chain = compile_chain([middlewares[middleware] for middleware in router.middlewares])
        branches = tuple(
            (
                compile_matches(branch.matches),
                Route(
                    router.service,
                    balancer=self.services[branch.service].balancer,
                    counters=counters,
                    chain=chain,
                    key=key,
                    router=_NO_ROUTER,
                    destination=branch.service,
                ),
            )
            for branch in router.branches
        )
        balancer = self.services[router.service].balancer
        return Route(
            router.service,
            balancer=balancer,
            counters=counters,
            chain=chain,
            key=key,
            router=router,
            branches=branches,
        )


def has_chooser(balancer: Balancer[HttpServer] | None) -> bool:
    """Return whether a plugin chooses among the servers, and therefore inspects the exchange."""
    if isinstance(balancer, Division):
        return any(has_chooser(part.balancer) for part in balancer.parts)
    return isinstance(balancer, ChosenBalancer)


def build_table(
    section: Section,
    *,
    middlewares: Mapping[str, Middleware],
    changed: frozenset[str] | None,
    current: HttpTable,
    get_server: GetServer,
    balancers: BalancerKinds,
) -> HttpTable:
    """Build the table for `section`. If `changed` is given, start from `current` and update only those keys.

    `get_server` returns the pool of a server; calling it has no effect until the table is applied.
    """
    keys = current.keys | frozenset(section.routers) | frozenset(section.services) if changed is None else changed
    table = HttpTable(current)
    keys |= table.list_divided(keys)
    users = table.list_users(keys)
    whole = [key for key in keys if key not in section.services or not section.services[key].parts]
    for key in (*whole, *(keys - frozenset(whole))):
        table.set_service(key, section.services.get(key), get_server=get_server, balancers=balancers)
    claimants: Claimants = {}
    for key in sorted(keys | users):
        table.drop_router(key, claimants)
        router = section.routers.get(key)
        if router is not None:
            table.add_router(key, router, middlewares, claimants)
    table.assign_hosts(claimants)
    table.drop_unused_counters(keys)
    return table


def _list_claims(router: HttpRouter) -> list[Claim]:
    return [(router.entrypoint, host.lower().encode("ascii", "replace")) for host in dict.fromkeys(router.hosts)]


class CurrentTable:
    """Holds the current table. Replacing it is one assignment; exchanges in progress keep their route."""

    __slots__ = ("table",)

    def __init__(self, table: HttpTable) -> None:
        self.table = table

    def __repr__(self) -> str:
        return f"<CurrentTable {self.table!r}>"
