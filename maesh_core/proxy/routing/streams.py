"""Routes of protocols where each entrypoint belongs to one service: TCP, UDP and similar ones of plugins.

Takes a section of StreamRouters; returns the route of each entrypoint: its balanced servers, and the middlewares that
decide about access. It sends no traffic itself. Failing servers are set aside, and tried after all others. Implements
`node.Streams`.
"""

import socket
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from maesh_core.model.addresses import join_port
from maesh_core.model.configuration import Section, Service
from maesh_core.model.configuration import Server as ConfiguredServer
from maesh_core.plugin_system.interfaces import Connection
from maesh_core.plugin_system.middleware import Middleware
from maesh_core.plugin_system.node import StreamRoute, StreamServer
from maesh_core.plugin_system.transports import OFF, STRICT
from maesh_core.proxy.balancing.balancer import AnyBalancer, build_balancer
from maesh_core.proxy.balancing.division import DividedPart, Division
from maesh_core.proxy.balancing.health import Aside, PassiveHealth
from maesh_core.proxy.middleware.chain import Judge, collect_judges, read_verdict
from maesh_core.proxy.middleware.failures import MiddlewareFailures
from maesh_core.proxy.transport.guards import list_guarded

ServerKey = tuple[str, int, str, str]
"""The address, the port, and if the service has encryption, the node and the mode."""


class Server:
    """One server: its address, its load, whether it is set aside, and how it is reached.

    `mode` is that of the service's encryption, and empty for `off`; the node is only set with a mode.
    """

    __slots__ = ("_health", "aside", "family", "mode", "node", "socket_address", "under_way")

    def __init__(self, address: str, port: int, health: PassiveHealth, *, node: str = "", mode: str = "") -> None:
        self.socket_address = (address, port)
        self.node = node
        self.mode = mode
        self.family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.under_way = 0
        self.aside: Aside | None = None
        self._health = health

    def __repr__(self) -> str:
        return f"<Server {self.socket_address} under_way={self.under_way} {self.aside!r}>"

    @property
    def is_set_aside(self) -> bool:
        """Whether it has failed and not succeeded since."""
        return self.aside is not None

    def describe(self) -> str:
        """Name the server in the log."""
        address, port = self.socket_address
        return join_port(address, port)

    def note_failure(self) -> None:
        """Set it aside for a while, so that others are tried first."""
        self._health.on_failure(self)

    def note_success(self) -> None:
        """Return it to full use."""
        if self.aside is not None:
            self._health.on_success(self)


AnyStreamBalancer = AnyBalancer[Server] | Division[Server]


class StrictServers:
    """Which servers of a route are reached only over paths: those of its strict services."""

    __slots__ = ("_nodes", "_others")

    def __init__(self, services: Iterable[Service]) -> None:
        self._nodes: dict[tuple[str, int], str] = {}
        self._others: set[tuple[str, int]] = set()
        for service in services:
            for server in service.servers:
                if service.encryption == STRICT:
                    self._nodes[server.address, server.port] = server.node
                else:
                    self._others.add((server.address, server.port))

    def __repr__(self) -> str:
        return f"<StrictServers {len(self._nodes)}>"

    def find_node(self, address: tuple[str, int], *, is_of_route: bool) -> str | None:
        """Return the node of a server that must be reached over a path, empty if it is not known; else None.

        A server that has left the route must be, too.
        """
        node = self._nodes.get(address)
        if node is not None:
            return node
        return "" if is_of_route and address not in self._others else None


class Route:
    """The route of an entrypoint. Without judges, all clients are allowed.

    `strict` is None if no service of the route is strict.
    """

    __slots__ = (
        "_admitting",
        "_failures",
        "_servers",
        "_staying",
        "balancer",
        "counters",
        "has_guard",
        "key",
        "service",
        "strict",
    )

    def __init__(
        self,
        key: str,
        service: str,
        servers: Iterable[Server],
        counters: Any,
        *,
        balancer: AnyStreamBalancer,
        middlewares: Sequence[object],
        failures: MiddlewareFailures,
        has_guard: bool = False,
        strict: StrictServers | None = None,
    ) -> None:
        self.key, self.service = key, service
        self.counters = counters
        self.has_guard = has_guard
        self._servers = tuple(servers)
        self.strict = strict
        self.balancer = balancer
        self._failures = failures
        self._admitting = collect_judges(middlewares, "on_connect")
        self._staying = collect_judges(middlewares, "is_still_allowed")

    def __repr__(self) -> str:
        return f"<Route to {self.service}>"

    @property
    def servers(self) -> tuple[Server, ...]:
        """All servers."""
        return self._servers

    @property
    def is_guarded(self) -> bool:
        """Whether any middleware decides about access."""
        return bool(self._admitting or self._staying)

    def admits(self, connection: Connection) -> bool:
        """Return whether the middlewares allow a connection to start; one that raises denies it."""
        return not self._admitting or all(self._judge(judge, connection, default=True) for judge in self._admitting)

    def keeps(self, connection: Connection) -> bool:
        """Return whether the middlewares allow a connection to continue; one that raises denies it."""
        return all(self._judge(judge, connection, default=False) for judge in self._staying)

    def has_server(self, server: StreamServer) -> bool:
        """Return whether the route still has a server."""
        return server in self._servers

    def list_servers(self) -> Iterator[Server]:
        """Yield each server once, in the order to try them for one connection; servers set aside are last.

        Yield none if the connection belongs to the share of a part that has no server.
        """
        tried: list[Server] = []
        while len(tried) < len(self._servers):
            server = self.balancer.pick(tried)
            if server is None or server in tried:
                break
            tried.append(server)
            yield server
        if not tried and isinstance(self.balancer, Division):
            return
        for server in self._servers:
            if server not in tried:
                yield server

    def find_destination(self, server: StreamServer | None) -> str:
        """Return the key of the service that a server belongs to: the first such part of a split, else the service."""
        for part in self.balancer.parts if isinstance(self.balancer, Division) else ():
            if server in part.servers:
                return part.key
        return self.service

    def _judge(self, judge: Judge, connection: Connection, *, default: bool) -> bool:
        try:
            return read_verdict(judge(connection), default=default)
        except Exception as error:  # fail closed: a judge that raises denies access
            self._failures.note(judge, error, "a connection is denied")
            return False


class Table:
    """The routes by entrypoint, and the counters and servers that they share."""

    __slots__ = ("counters", "has_strict_services", "routes", "servers")

    def __init__(
        self,
        routes: Mapping[int, Route],
        counters: Mapping[str, Any],
        servers: Mapping[ServerKey, Server],
    ) -> None:
        self.routes = routes
        self.counters = counters
        self.servers = servers
        self.has_strict_services = any(route.strict is not None for route in routes.values())

    def __repr__(self) -> str:
        return f"<Table {len(self.routes)} entrypoints>"


class Streams:
    """The routes of one protocol. `build_counters` creates the counters of a service."""

    __slots__ = ("_build_counters", "_failures", "_guard_kinds", "_health", "_table", "counters", "routes")

    def __init__(
        self,
        health: PassiveHealth,
        failures: MiddlewareFailures,
        build_counters: Callable[[], Any],
        *,
        guard_kinds: Collection[str] = (),
    ) -> None:
        self._guard_kinds = guard_kinds
        self._health = health
        self._failures = failures
        self._build_counters = build_counters
        self.apply_table(Table({}, {}, {}))

    def __repr__(self) -> str:
        return f"<Streams {self._table!r}>"

    def compile_table(
        self, section: Section, *, middlewares: Mapping[str, Middleware], changed: frozenset[str] | None
    ) -> Table:
        """Build the next table. If two routers claim an entrypoint, the one with the lower key gets it."""
        current = self._table
        routes: dict[int, Route] = {}
        counters: dict[str, Any] = {}
        servers: dict[ServerKey, Server] = {}
        guarded = list_guarded(section, self._guard_kinds) if self._guard_kinds else frozenset()
        for key, router in sorted(section.routers.items(), reverse=True):
            services = _list_services(section, router.service)
            for place in (_build_key(service, each) for service in services.values() for each in service.servers):
                if place not in servers:
                    address, port, node, mode = place
                    known_server = current.servers.get(place)
                    servers[place] = known_server or Server(address, port, self._health, node=node, mode=mode)
            counters[key] = current.counters[key] if key in current.counters else self._build_counters()
            known = current.routes.get(router.entrypoint)
            former = known if known is not None and (known.key, known.service) == (key, router.service) else None
            if former is not None and changed is not None and changed.isdisjoint((key, *services)):
                routes[router.entrypoint] = former
                continue
            routes[router.entrypoint] = Route(
                key,
                router.service,
                _list_usable(services, servers),
                counters[key],
                balancer=_build_balancer(router.service, services, servers, former),
                middlewares=[middlewares[name] for name in router.middlewares],
                failures=self._failures,
                has_guard=router.service in guarded,
                strict=_find_strict(services.values()),
            )
        return Table(routes, counters, servers)

    def apply_table(self, table: object) -> None:
        """Use this table for new connections."""
        assert isinstance(table, Table)  # noqa: S101 - it is from compile_table
        self._table = table
        self.routes: Mapping[int, StreamRoute[Any]] = table.routes
        self.counters: Mapping[str, Any] = table.counters

    @property
    def has_strict_services(self) -> bool:
        """Whether the service of any route is strict."""
        return self._table.has_strict_services

    def must_encrypt(self, connection: Connection) -> str | None:
        """Return the node of a connection's server, empty if it is not known, if its service is strict now; else None.

        If the server has left the service, the node is not known.
        """
        route = self._table.routes.get(connection.entrypoint)
        if route is None or route.strict is None:
            return None
        server = connection.server
        is_of_route = route.service == connection.service
        return None if server is None else route.strict.find_node(server, is_of_route=is_of_route)

    def may_go_on(self, connection: Connection, route: Any) -> bool:
        """Return whether a connection that started on `route` may continue.

        If its entrypoint now has no route, or another service, it may continue unless a middleware had decided about
        it, since that middleware no longer applies.
        """
        current = self._table.routes.get(connection.entrypoint)
        if current is route:
            return True
        if current is None or current.service != connection.service:
            return not route.is_guarded
        return current.keeps(connection)


def _build_key(service: Service, server: ConfiguredServer) -> ServerKey:
    """Build the key of a server; without encryption, its node does not matter."""
    if service.encryption == OFF:
        return server.address, server.port, "", ""
    return server.address, server.port, server.node, service.encryption


def _list_services(section: Section, key: str) -> dict[str, Service]:
    """Return a service and its parts, by key."""
    service = section.services[key]
    return {key: service, **{part.service: section.services[part.service] for part in service.parts}}


def _find_strict(services: Collection[Service]) -> StrictServers | None:
    return StrictServers(services) if any(each.encryption == STRICT for each in services) else None


def _list_usable(services: Mapping[str, Service], servers: Mapping[ServerKey, Server]) -> Iterable[Server]:
    """Return the servers with a weight above 0, without duplicates."""
    return dict.fromkeys(
        servers[_build_key(service, each)]
        for service in services.values()
        for each in service.servers
        if each.weight > 0
    )


def _build_balancer(
    key: str, services: Mapping[str, Service], servers: Mapping[ServerKey, Server], former: Route | None
) -> AnyStreamBalancer:
    """Build the balancer of a service and of each of its parts; rotations continue."""
    before = former.balancer if former is not None else None
    known: dict[str, Any] = {part.key: part.balancer for part in before.parts} if isinstance(before, Division) else {}

    def balance(service: Service, former: AnyBalancer[Server] | None) -> AnyBalancer[Server]:
        weighted = [(servers[_build_key(service, each)], each.weight) for each in service.servers]
        return build_balancer(weighted, service.load_balancer, former=former)

    service = services[key]
    if not service.parts:
        return balance(service, None if isinstance(before, Division) else before)
    parts = []
    for part in service.parts:
        found = services[part.service]
        own = {servers[_build_key(found, each)] for each in found.servers}
        parts.append((DividedPart(part.service, balance(found, known.get(part.service)), own), part.weight))
    return Division(parts, former=before if isinstance(before, Division) else None)
