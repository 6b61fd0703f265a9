"""The HTTP routing table: maps entrypoint and host to a route, compiled from routers and services.

It refers to servers, but not to exchanges. Building a table changes nothing else: it shares the servers of the current
table, which keep their pooled connections. A delta copies the dicts and compiles only what changed. Applying a table is
one assignment; exchanges in progress keep their route.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

from maesh_core.model.configuration import (
    HttpRouter,
    Section,
    Server,
    Service,
    chooses_by_rules,
    list_chains,
    list_targets,
)
from maesh_core.model.hosts import build_meant_host, find_meant_host
from maesh_core.plugin_system.interfaces import Response
from maesh_core.plugin_system.middleware import Middleware
from maesh_core.plugin_system.transports import OFF
from maesh_core.proxy.balancing.division import DividedPart, Division
from maesh_core.proxy.balancing.kinds import BalancerKinds
from maesh_core.proxy.http.answers import CLOSED, NO_SERVER
from maesh_core.proxy.http.branch_compiling import BranchCompiler
from maesh_core.proxy.http.compiled_services import CompiledService
from maesh_core.proxy.http.request_counters import RouteCounters
from maesh_core.proxy.http.routes import Route
from maesh_core.proxy.http.rule_compiling import RuleCompiler
from maesh_core.proxy.http.upstreams.connection_pool import HttpServer
from maesh_core.proxy.http.upstreams.server_key import ServerKey
from maesh_core.proxy.middleware.chain import Chain, compile_chain
from maesh_core.proxy.transport.guards import list_guarded, list_reached
from maesh_core.proxy.transport.paths import Paths

GetServer = Callable[[ServerKey], HttpServer]
Claim = tuple[int, bytes]
Claimants = dict[Claim, set[str]]
"""While a table is built: the hosts to decide, and the keys of the routers that claim each."""
ANY_HOST: Final = b""
"""In place of the hosts of an entrypoint that is a router's own."""


class HttpTable:
    """Maps the hosts of each entrypoint to routes. `gained` and `lost` list changes compared to the previous table.

    A change copies these dicts, so there are few of them, with one value per key. `contested` contains only hosts with
    several claimants, whose keys are sorted. `has_lost_judges` means that a host whose route judges exchanges in
    progress now has another route or none.
    """

    __slots__ = (
        "contested",
        "counters",
        "delivery_guards",
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
        self.delivery_guards: dict[str, Chain] = dict(base.delivery_guards) if base else {}
        """For each router, the guards that requests which other nodes send on must pass; empty without a transport."""
        self.gained: list[HttpServer] = []
        self.lost: list[HttpServer] = []
        self.has_lost_judges = False

    def __repr__(self) -> str:
        return f"<HttpTable routers={len(self.routes)} services={len(self.services)}>"

    def find(self, entrypoint: int, host: bytes) -> Route | None:
        """Return the route of a host; None if there is none.

        An entrypoint of one router's own has every host. On others, a host that no router has may stand for another.
        """
        hosts = self.hosts.get(entrypoint)
        if hosts is None:
            return None
        found = hosts.get(host)
        if found is not None:
            return found
        found = hosts.get(ANY_HOST)
        if found is not None:
            return found
        meant = find_meant_host(host)
        return None if meant is None else hosts.get(meant)

    @property
    def keys(self) -> frozenset[str]:
        """The keys of all routers and services."""
        return frozenset(self.routes) | frozenset(self.services)

    # --- building: only build_table() calls these methods, before the table is used

    def set_service(
        self,
        key: str,
        service: Service | None,
        *,
        get_server: GetServer,
        balancers: BalancerKinds,
        paths: Paths | None = None,
        is_guarded: bool = False,
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
            (get_server(_build_server_key(service, server, paths, is_guarded=is_guarded)), server.weight)
            for server in service.servers
        )
        self.gained += [server for server, _ in servers]
        before = former.balancer if former is not None and not isinstance(former.balancer, Division) else None
        balancer = balancers.build(servers, service, former=before)
        self.services[key] = CompiledService(servers, balancer, users, answer=_build_answer(service))

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

    def drop_router(self, key: str, claimants: Claimants) -> Route | None:
        """Remove a router and its claims; return its route."""
        route = self.routes.pop(key, None)
        self.delivery_guards.pop(key, None)
        if route is None:
            return None
        for name in list_targets(route.router):
            service = self.services.get(name)
            if service is not None:
                self.services[name] = service._replace(users=service.users - {key})
        for claim in _list_claims(route.router):
            self._read_claimants(claim, claimants).discard(key)
        return route

    def add_router(
        self,
        key: str,
        router: HttpRouter,
        middlewares: Mapping[str, Middleware],
        claimants: Claimants,
        *,
        guard_keys: Collection[str] = (),
        has_transport: bool = False,
        former: Route | None = None,
    ) -> None:
        """Add a router and its claims; `former` is its previous route.

        `guard_keys` are the keys of the guards, which are the middlewares that decide about access.
        """
        self.routes[key] = self._compile(key, router, middlewares, former, guard_keys)
        if has_transport and guard_keys:
            known = dict.fromkeys(each for chain in list_chains(router) for each in chain)
            guards = [middlewares[each] for each in known if each in guard_keys]
            if guards:
                self.delivery_guards[key] = compile_chain(guards)
        for name in list_targets(router):
            service = self.services[name]
            self.services[name] = service._replace(users=service.users | {key})
        for claim in _list_claims(router):
            self._read_claimants(claim, claimants).add(key)

    def _read_claimants(self, claim: Claim, claimants: Claimants) -> set[str]:
        found = claimants.get(claim)
        if found is None:
            entrypoint, host = claim
            route = self.hosts.get(entrypoint, {}).get(host)
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
            if former is not None and former.has_judges:
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

    def _compile(
        self,
        key: str,
        router: HttpRouter,
        middlewares: Mapping[str, Middleware],
        former: Route | None,
        guard_keys: Collection[str],
    ) -> Route:
        counters = self.counters.setdefault(router.service or key, RouteCounters())
        if chooses_by_rules(router):
            rules = RuleCompiler(
                key, router, services=self.services, middlewares=middlewares, counters=counters, guard_keys=guard_keys
            )
            return rules.compile(former)
        if router.service is None:
            closed = Response(status=router.status, reason=router.reason or CLOSED)
            return Route("", balancer=None, counters=counters, closed=closed, key=key, router=router)
        compiler = BranchCompiler(
            key,
            router,
            router.service,
            services=self.services,
            middlewares=middlewares,
            counters=counters,
            guard_keys=guard_keys,
        )
        return compiler.compile()


def build_table(
    section: Section,
    *,
    middlewares: Mapping[str, Middleware],
    changed: frozenset[str] | None,
    current: HttpTable,
    get_server: GetServer,
    balancers: BalancerKinds,
    paths: Paths | None = None,
) -> HttpTable:
    """Build the table for `section`. If `changed` is given, start from `current` and update only those keys.

    `get_server` returns the pool of a server; calling it has no effect until the table is applied.
    """
    guarded: frozenset[str] = frozenset()
    if paths is not None and paths.remote_guard_kinds:
        guarded = list_guarded(section, paths.remote_guard_kinds)
        if changed is not None:
            changed |= list_reached(section, changed)
    keys = current.keys | frozenset(section.routers) | frozenset(section.services) if changed is None else changed
    table = HttpTable(current)
    keys |= table.list_divided(keys)
    users = table.list_users(keys)
    whole = [key for key in keys if key not in section.services or not section.services[key].parts]
    for key in (*whole, *(keys - frozenset(whole))):
        table.set_service(
            key,
            section.services.get(key),
            get_server=get_server,
            balancers=balancers,
            paths=paths,
            is_guarded=key in guarded or _is_bound(section.services.get(key), paths),
        )
    claimants: Claimants = {}
    for key in sorted(keys | users):
        former = table.drop_router(key, claimants)
        router = section.routers.get(key)
        if router is not None:
            table.add_router(
                key,
                router,
                middlewares,
                claimants,
                guard_keys=_list_guard_keys(section, router, paths),
                has_transport=paths is not None and paths.transport is not None,
                former=former,
            )
    table.assign_hosts(claimants)
    table.drop_unused_counters(keys)
    return table


def _list_guard_keys(section: Section, router: HttpRouter, paths: Paths | None) -> frozenset[str]:
    """Return the keys of a router's middlewares that decide about access."""
    kinds = paths.guard_kinds if paths is not None else ()
    if not kinds:
        return frozenset()
    known = section.middlewares
    return frozenset(key for chain in list_chains(router) for key in chain if key in known and known[key].kind in kinds)


def _is_bound(service: Service | None, paths: Paths | None) -> bool:
    """Return whether a connection to another node carries one client's requests, because the server gets its name."""
    return service is not None and paths is not None and paths.names_clients and service.scheme != "https"


def _build_answer(service: Service) -> Response:
    """Build the response of a service that has no server."""
    answer = service.answer
    if answer is None:
        return NO_SERVER
    reason = answer.reason or "the backend cannot be used"
    return Response(status=answer.status, reason=reason, grpc_status=answer.grpc_status)


def _build_server_key(service: Service, server: Server, paths: Paths | None, *, is_guarded: bool) -> ServerKey:
    """Build the key of a server; without encryption, its node does not matter.

    A server outside of the mesh has no node, and the TLS to it is its encryption.
    """
    if service.encryption == OFF or (server.name and service.scheme == "https"):
        return ServerKey(
            service.scheme,
            server.address,
            server.port,
            server.tls_name,
            name=server.name,
            authority=server.authority,
            hides_client=server.hides_client,
        )
    is_local = paths is not None and paths.is_local(server.node)
    return ServerKey(
        service.scheme,
        server.address,
        server.port,
        server.tls_name,
        node=server.node,
        mode=service.encryption,
        is_guarded=is_guarded and not is_local,
        name=server.name,
        authority=server.authority,
        hides_client=server.hides_client,
    )


def _list_claims(router: HttpRouter) -> list[Claim]:
    hosts = (host.lower().encode("ascii", "replace") for host in dict.fromkeys(router.hosts))
    claims = [(router.entrypoint, host) for host in hosts if host != ANY_HOST]
    return [*claims, (router.own_entrypoint, ANY_HOST)] if router.own_entrypoint else claims


class CurrentTable:
    """Holds the current table. Replacing it is one assignment; exchanges in progress keep their route.

    `namespaces` has the namespaces of clients by address, as far as the controller sends them. Without a client's
    namespace, its plain host names have no route, and it has no rules of its own.
    """

    __slots__ = ("namespaces", "table")

    def __init__(self, table: HttpTable) -> None:
        self.table = table
        self.namespaces: Mapping[str, str] = {}

    def __repr__(self) -> str:
        return f"<CurrentTable {self.table!r}>"

    def find(self, entrypoint: int, host: bytes, client: str) -> Route | None:
        """Return the route of a host in the current table for a client's address; None if there is none."""
        return self.table.find(entrypoint, host) or self.find_plain(entrypoint, host, client)

    def find_plain(self, entrypoint: int, host: bytes, client: str) -> Route | None:
        """Return the route of a name without a dot: of the service of this name in the namespace of the client.

        Only for hosts that `HttpTable.find` does not find, so it can replace no router's hosts.
        """
        namespace = self.namespaces.get(client)
        if namespace is None or not host or b"." in host:
            return None
        return self.table.find(entrypoint, build_meant_host(host, namespace))
