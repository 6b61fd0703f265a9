"""The HTTP routing table: entrypoint and host to a route, compiled from routers and services.

Knows servers, and nothing of exchanges. Building is pure: servers that the current table has are shared, so that their
pooled connections stay. A delta copies dicts and compiles only what changed; swapping tables is one assignment, and an
exchange keeps the route it began with.
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
from maesh_core.proxy.http.counters import RouteCounters
from maesh_core.proxy.http.exchanges.answers import AMBIGUOUS_PATH, CLOSED, NO_SERVER
from maesh_core.proxy.http.messages.request_head import RequestHead
from maesh_core.proxy.http.upstreams.connection_pool import HttpServer
from maesh_core.proxy.http.upstreams.server_key import ServerKey
from maesh_core.proxy.middleware.chain import EMPTY_CHAIN, Chain, compile_chain

GetServer = Callable[[ServerKey], HttpServer]
Claim = tuple[int, bytes]
Claimants = dict[Claim, set[str]]
"""While a table is built: the hosts in question, and the keys of the routers that claim each."""
_NO_ROUTER: Final = HttpRouter(entrypoint=0, hosts=())


class Route:
    """A compiled router. `balancer` None means that it is closed, and `closed` is the answer.

    `is_chained` says that a plugin wants to look at its exchanges, and `is_plain` that none does and all of them take
    this route. Otherwise the first of `branches` that a request matches has it; `is_path_read` says that some of them
    look at the path.
    """

    __slots__ = (
        "balancer",
        "branches",
        "chain",
        "closed",
        "counters",
        "destination",
        "is_chained",
        "is_path_read",
        "is_plain",
        "key",
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
        self.destination = destination or service
        self.balancer = balancer
        self.counters = counters
        self.chain = chain
        self.branches = branches
        self.is_path_read = any(has_paths(branch.matches) for branch in router.branches)
        self.is_chained = bool(chain.depth) or has_chooser(balancer)
        self.is_plain = not (self.is_chained or branches)
        self.closed = closed
        self.key = key
        self.router = router

    def __repr__(self) -> str:
        return f"<Route to {self.service or self.closed.status}>"

    def choose(self, head: RequestHead) -> "Route":
        """Choose the branch for a request; refuse one whose path could mean another than the branches read."""
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
        """Say whether `route` is this one, or one of its branches."""
        return route is self or any(branch is route for _, branch in self.branches)

    def has_destination(self, destination: str) -> bool:
        """Say whether requests may go to a destination: the service itself, or one of its branches."""
        return destination == self.destination or any(route.destination == destination for _, route in self.branches)


AnyServiceBalancer = AnyBalancer[HttpServer] | ChosenBalancer[HttpServer] | Division[HttpServer]


class CompiledService(NamedTuple):
    """A service's servers with their weights, who chooses among them, and the routers that lead there."""

    servers: tuple[tuple[HttpServer, int], ...]
    balancer: AnyServiceBalancer
    users: frozenset[str]
    parts: tuple[Part, ...] = ()


class HttpTable:
    """Where every host of every entrypoint leads. `gained` and `lost` compare it with the table it was built from.

    A change copies these dicts, so there are few: what belongs to one key is one value, and `contested` holds the
    claimants of a host, sorted, only where there are several. `has_lost_judges` says that some host had a route that
    judges exchanges under way, and has another one now.
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
        """For each service that is a part of others, these."""
        self.gained: list[HttpServer] = []
        self.lost: list[HttpServer] = []
        self.has_lost_judges = False

    def __repr__(self) -> str:
        return f"<HttpTable routers={len(self.routes)} services={len(self.services)}>"

    def find(self, entrypoint: int, host: bytes) -> Route | None:
        """Find the route for a host, None if there is none."""
        hosts = self.hosts.get(entrypoint)
        return hosts.get(host) if hosts is not None else None

    @property
    def keys(self) -> frozenset[str]:
        """The keys of all routers and services."""
        return frozenset(self.routes) | frozenset(self.services)

    # --- building; only build_table() calls these, before anybody else has the table

    def set_service(
        self, key: str, service: Service | None, *, get_server: GetServer, balancers: BalancerKinds
    ) -> None:
        """Put in, replace or (None) take out a service's servers; its rotation goes on."""
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
            if found is None or found.parts:  # its routers are refused
                continue
            servers = [server for server, _ in found.servers]
            parts.append((DividedPart(part.service, found.balancer, servers), part.weight))
            self.divided[part.service] = self.divided.get(part.service, frozenset()) | {key}
        before = former.balancer if former is not None and isinstance(former.balancer, Division) else None
        return CompiledService((), Division(parts, former=before), users, service.parts)

    def list_divided(self, keys: Iterable[str]) -> set[str]:
        """List the services that any of these services is a part of."""
        return {each for key in keys for each in self.divided.get(key, ())}

    def drop_router(self, key: str, claimants: Claimants) -> None:
        """Take out a router, and its claims."""
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
        """Put in a router, and its claims."""
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

    def settle_hosts(self, claimants: Claimants) -> None:
        """Give every host in question to the claimant with the lowest key, and forget hosts nobody claims."""
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
        """Count the servers of each service that are set aside."""
        return {
            key: sum(server.aside is not None for server, _ in service.servers)
            for key, service in self.services.items()
        }

    def list_users(self, services: Iterable[str]) -> set[str]:
        """List the routers that lead to any of these services."""
        return {router for key in services if key in self.services for router in self.services[key].users}

    def settle_counters(self, keys: Iterable[str]) -> None:
        """Forget the counts of routers that are gone."""
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
    """Say whether a plugin chooses among servers, and so wants to see the exchange."""
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
    """Build the table for `section`, from `current` where only `changed` differs.

    `get_server` gives the pool of an address; asking for one has no effect until the table is applied.
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
    table.settle_hosts(claimants)
    table.settle_counters(keys)
    return table


def _list_claims(router: HttpRouter) -> list[Claim]:
    return [(router.entrypoint, host.lower().encode("ascii", "replace")) for host in dict.fromkeys(router.hosts)]


class CurrentTable:
    """The table in force: to route by another is one assignment, and an exchange keeps the route it began with."""

    __slots__ = ("table",)

    def __init__(self, table: HttpTable) -> None:
        self.table = table

    def __repr__(self) -> str:
        return f"<CurrentTable {self.table!r}>"
