"""The HTTP routing table: entrypoint and host to a route, compiled from routers and services.

Building is pure: servers that the current table has are shared, so that their pooled connections stay. A delta copies
dicts and compiles only what changed; swapping tables is one assignment, and an exchange keeps the route it began with.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from maesh_core.hookspecs import Exchange, Response
from maesh_core.model.configuration import HttpRouter, Section, Service
from maesh_core.proxy.middleware.chain import Chain, compile_chain
from maesh_core.proxy.protocol.http.counters import RouteCounters
from maesh_core.proxy.upstream.balancer import AnyBalancer, Balancer, RoundRobin, build_balancer

if TYPE_CHECKING:
    from maesh_core.proxy.protocol.http.upstream import HttpServer


class ServerKey(NamedTuple):
    """What makes two servers one, with one pool of connections and one health: how and where it is spoken to.

    A connection that was verified for one name is none for another, so the name is part of it.
    """

    scheme: str
    address: str
    port: int
    tls_name: str = ""

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.scheme}://{host}:{self.port}"


GetServer = Callable[[ServerKey], "HttpServer"]
_NOT_CLOSED = Response(status=503, reason="the service has no usable server")


class Route:
    """A compiled router. `balancer` None means that it is closed, and `closed` is the answer."""

    __slots__ = ("balancer", "chain", "closed", "counters", "service")

    def __init__(
        self,
        service: str,
        *,
        balancer: "Balancer[HttpServer] | None",
        counters: RouteCounters,
        chain: Chain | None = None,
        closed: Response = _NOT_CLOSED,
    ) -> None:
        self.service = service
        self.balancer = balancer
        self.counters = counters
        self.chain = chain
        self.closed = closed

    def __repr__(self) -> str:
        return f"<Route to {self.service or self.closed.status}>"


class HttpTable:
    """Where every host of every entrypoint leads. `gained` and `lost` compare it with the table it was built from."""

    __slots__ = ("balancers", "claims", "counters", "gained", "hosts", "lost", "routers", "routes", "servers", "users")

    def __init__(self, base: "HttpTable | None" = None) -> None:
        self.routers: dict[str, HttpRouter] = dict(base.routers) if base else {}
        self.routes: dict[str, Route] = dict(base.routes) if base else {}
        self.hosts: dict[int, dict[bytes, Route]] = dict(base.hosts) if base else {}
        self.claims: dict[tuple[int, bytes], tuple[str, ...]] = dict(base.claims) if base else {}
        self.servers: dict[str, tuple[tuple[HttpServer, int], ...]] = dict(base.servers) if base else {}
        self.balancers: dict[str, AnyBalancer[HttpServer]] = dict(base.balancers) if base else {}
        self.users: dict[str, frozenset[str]] = dict(base.users) if base else {}
        self.counters: dict[str, RouteCounters] = dict(base.counters) if base else {}
        self.gained: list[HttpServer] = []
        self.lost: list[HttpServer] = []

    def __repr__(self) -> str:
        return f"<HttpTable routers={len(self.routers)} services={len(self.servers)}>"

    def find(self, entrypoint: int, host: bytes) -> Route | None:
        """Find the route for a host, None if there is none."""
        hosts = self.hosts.get(entrypoint)
        return hosts.get(host) if hosts is not None else None

    @property
    def keys(self) -> frozenset[str]:
        """The keys of all routers and services."""
        return frozenset(self.routers) | frozenset(self.servers)

    # --- building; only build_table() calls these, before anybody else has the table

    def set_service(self, key: str, service: Service | None, get_server: GetServer) -> None:
        """Put in, replace or (None) take out a service's servers; its rotation goes on."""
        self.lost += [server for server, _ in self.servers.pop(key, ())]
        former = self.balancers.pop(key, None)
        if service is None:
            return
        servers = tuple(
            (get_server(ServerKey(service.scheme, server.address, server.port, server.tls_name)), server.weight)
            for server in service.servers
        )
        self.gained += [server for server, _ in servers]
        self.servers[key] = servers
        self.balancers[key] = build_balancer(servers, service.load_balancer, former=former)

    def drop_router(self, key: str, touched: set[tuple[int, bytes]]) -> None:
        """Take out a router, and note the hosts that it claimed."""
        router = self.routers.pop(key, None)
        self.routes.pop(key, None)
        if router is None:
            return
        if router.service is not None:
            self.users[router.service] -= {key}
            if not self.users[router.service]:
                del self.users[router.service]
        for claim in _list_claims(router):
            self.claims[claim] = tuple(claimant for claimant in self.claims[claim] if claimant != key)
            touched.add(claim)

    def add_router(
        self, key: str, router: HttpRouter, middlewares: Mapping[str, Any], touched: set[tuple[int, bytes]]
    ) -> None:
        """Put in a router, and note the hosts that it claims."""
        self.routers[key] = router
        self.routes[key] = self._compile(key, router, middlewares)
        if router.service is not None:
            self.users[router.service] = self.users.get(router.service, frozenset()) | {key}
        for claim in _list_claims(router):
            self.claims[claim] = tuple(sorted({*self.claims.get(claim, ()), key}))
            touched.add(claim)

    def settle_hosts(self, touched: Iterable[tuple[int, bytes]]) -> None:
        """Give every touched host to the claimant with the lowest key, and forget hosts nobody claims."""
        fresh: dict[int, dict[bytes, Route]] = {}
        for claim in touched:
            entrypoint, host = claim
            if entrypoint not in fresh:
                fresh[entrypoint] = self.hosts[entrypoint] = dict(self.hosts.get(entrypoint, {}))
            claimants = self.claims[claim]
            if claimants:
                fresh[entrypoint][host] = self.routes[claimants[0]]
            else:
                del self.claims[claim]
                fresh[entrypoint].pop(host, None)

    def list_users(self, services: Iterable[str]) -> set[str]:
        """List the routers that lead to any of these services."""
        return {router for service in services for router in self.users.get(service, ())}

    def settle_counters(self, keys: Iterable[str]) -> None:
        """Forget the counts of routers that are gone."""
        for key in keys:
            if key not in self.users and key not in self.routers:
                self.counters.pop(key, None)

    def _compile(self, key: str, router: HttpRouter, middlewares: Mapping[str, Any]) -> Route:
        name = router.service or key
        counters = self.counters.setdefault(name, RouteCounters())
        if router.service is None:
            closed = Response(status=router.status, reason=router.reason or "the service is closed")
            return Route("", balancer=None, counters=counters, closed=closed)
        chain = compile_chain([middlewares[middleware] for middleware in router.middlewares])
        return Route(router.service, balancer=self.balancers[router.service], counters=counters, chain=chain)


def build_table(
    section: Section,
    *,
    middlewares: Mapping[str, Any],
    changed: frozenset[str] | None,
    current: HttpTable,
    get_server: GetServer,
) -> HttpTable:
    """Build the table for `section`, from `current` where only `changed` differs.

    `get_server` gives the pool of an address; asking for one has no effect until the table is applied.
    """
    keys = current.keys | frozenset(section.routers) | frozenset(section.services) if changed is None else changed
    table = HttpTable(current)
    for key in keys:
        table.set_service(key, section.services.get(key), get_server)
    touched: set[tuple[int, bytes]] = set()
    for key in sorted(keys | table.list_users(keys)):
        table.drop_router(key, touched)
        router = section.routers.get(key)
        if router is not None:
            table.add_router(key, router, middlewares, touched)
    table.settle_hosts(touched)
    table.settle_counters(keys)
    return table


def _list_claims(router: HttpRouter) -> list[tuple[int, bytes]]:
    return [(router.entrypoint, host.lower().encode("ascii", "replace")) for host in dict.fromkeys(router.hosts)]


class LocalTable:
    """Answers every request on the spot: the admin port's table."""

    __slots__ = ("_route",)

    def __init__(self, respond: Callable[[Exchange], Response]) -> None:
        self._route = Route(
            "", balancer=RoundRobin(()), counters=RouteCounters(), chain=compile_chain([_Responder(respond)])
        )

    def find(self, entrypoint: int, host: bytes) -> Route:
        """Find the one route."""
        return self._route


class _Responder:
    def __init__(self, respond: Callable[[Exchange], Response]) -> None:
        self.on_request = respond
