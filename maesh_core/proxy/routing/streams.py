"""Routes of protocols where each entrypoint belongs to one service: TCP, UDP and similar ones of plugins.

Takes a section of StreamRouters; returns the route of each entrypoint: its balanced servers, and the middlewares that
decide about access. It sends no traffic itself. Failing servers are set aside, and tried after all others. Implements
`node.Streams`.
"""

import logging
import socket
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from maesh_core.model.addresses import join_port
from maesh_core.model.configuration import Section, Service, StreamRouter, list_targets
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

_logger = logging.getLogger(__name__)


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

    `strict` is None if no service of the route is strict. `consumers` has the routes for clients of a namespace, which
    have none themselves.
    """

    __slots__ = (
        "_admitting",
        "_failures",
        "_servers",
        "_staying",
        "balancer",
        "consumers",
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
        consumers: Mapping[str, "Route"] | None = None,
    ) -> None:
        self.key, self.service = key, service
        self.consumers: Mapping[str, Route] = consumers or {}
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
            owner = type(getattr(judge, "__self__", judge))
            if self._failures.count(owner):
                _logger.error("middleware %s failed; a connection is denied: %r", owner.__qualname__, error)
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
        self.has_strict_services = any(
            each.strict is not None for route in routes.values() for each in (route, *route.consumers.values())
        )

    def __repr__(self) -> str:
        return f"<Table {len(self.routes)} entrypoints>"


class Streams:
    """The routes of one protocol. `build_counters` creates the counters of a service."""

    __slots__ = (
        "_build_counters",
        "_failures",
        "_guard_kinds",
        "_health",
        "_namespaces",
        "_table",
        "counters",
        "routes",
    )

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
        self._namespaces: Mapping[str, str] = {}
        self.apply_table(Table({}, {}, {}))

    def __repr__(self) -> str:
        return f"<Streams {self._table!r}>"

    def compile_table(
        self, section: Section, *, middlewares: Mapping[str, Middleware], changed: frozenset[str] | None
    ) -> Table:
        """Build the next table. If two routers claim an entrypoint, the one with the lower key gets it."""
        compiler = _TableCompiler(
            section,
            self._table,
            middlewares=middlewares,
            changed=changed,
            health=self._health,
            failures=self._failures,
            guarded=list_guarded(section, self._guard_kinds) if self._guard_kinds else frozenset(),
        )
        counters: dict[str, Any] = {}
        routes: dict[int, Route] = {}
        for key, router in sorted(section.routers.items(), reverse=True):
            known = self._table.counters.get(key)
            counters[key] = self._build_counters() if known is None else known
            routes[router.entrypoint] = compiler.compile_router(key, router, counters[key])
        return Table(routes, counters, compiler.servers)

    def apply_table(self, table: object) -> None:
        """Use this table for new connections."""
        assert isinstance(table, Table)  # noqa: S101 - it is from compile_table
        self._table = table
        self.routes: Mapping[int, StreamRoute[Any]] = table.routes
        self.counters: Mapping[str, Any] = table.counters

    def apply_namespaces(self, namespaces: Mapping[str, str]) -> None:
        """Use these namespaces of clients, by address, for new connections."""
        self._namespaces = namespaces

    def find_route(self, entrypoint: int, client_address: str) -> Route | None:
        """Find the route of a new connection: that for clients of its namespace, or else that of the entrypoint."""
        route = self._table.routes.get(entrypoint)
        if route is None or not route.consumers:
            return route
        return route.consumers.get(self._namespaces.get(client_address, ""), route)

    def find_current_route(self, connection: Connection) -> Route | None:
        """Find the route that a connection would start on now; its address is read only if the route depends on it."""
        route = self._table.routes.get(connection.entrypoint)
        if route is None or not route.consumers:
            return route
        return self.find_route(connection.entrypoint, connection.client_address)

    @property
    def has_strict_services(self) -> bool:
        """Whether the service of any route is strict."""
        return self._table.has_strict_services

    def must_encrypt(self, connection: Connection) -> str | None:
        """Return the node of a connection's server, empty if it is not known, if its service is strict now; else None.

        If the server has left the service, the node is not known.
        """
        route = self.find_current_route(connection)
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
        current = self.find_current_route(connection)
        if current is route:
            return True
        if current is None or current.service != connection.service:
            return not route.is_guarded
        return current.keeps(connection)


class _TableCompiler:
    """Compiles the routers of a section; unchanged routes and servers of the current table are kept."""

    __slots__ = ("_changed", "_current", "_failures", "_guarded", "_health", "_middlewares", "_section", "servers")

    def __init__(
        self,
        section: Section,
        current: Table,
        *,
        middlewares: Mapping[str, Middleware],
        changed: frozenset[str] | None,
        health: PassiveHealth,
        failures: MiddlewareFailures,
        guarded: Collection[str],
    ) -> None:
        self._section, self._current, self._middlewares, self._changed = section, current, middlewares, changed
        self._health, self._failures, self._guarded = health, failures, guarded
        self.servers: dict[ServerKey, Server] = {}
        """All servers of the routers so far."""

    def __repr__(self) -> str:
        return f"<_TableCompiler {len(self.servers)} servers>"

    def compile_router(self, key: str, router: StreamRouter, counters: Any) -> Route:
        """Compile a router, with the routes for clients of a namespace."""
        reached = {each: _list_services(self._section, each) for each in list_targets(router)}
        for services in reached.values():
            self._add_servers(services)
        known = self._current.routes.get(router.entrypoint)
        if known is not None and self._is_unchanged(key, router, known, reached):
            return known
        before = {} if known is None or known.key != key else known.consumers

        def compile_target(service: str, former: Route | None, consumers: Mapping[str, Route] | None = None) -> Route:
            same = former if former is not None and (former.key, former.service) == (key, service) else None
            return self._compile(key, router, service, reached[service], counters, former=same, consumers=consumers)

        consumers = {name: compile_target(each, before.get(name)) for name, each in router.consumers.items()}
        return compile_target(router.service, known, consumers)

    def _is_unchanged(
        self, key: str, router: StreamRouter, known: Route, reached: Mapping[str, Mapping[str, Service]]
    ) -> bool:
        """Return whether neither the router nor any service that it reaches has changed."""
        if self._changed is None or (known.key, known.service) != (key, router.service):
            return False
        return self._changed.isdisjoint((key, *(each for services in reached.values() for each in services)))

    def _add_servers(self, services: Mapping[str, Service]) -> None:
        for place in (_build_key(service, each) for service in services.values() for each in service.servers):
            if place not in self.servers:
                address, port, node, mode = place
                known = self._current.servers.get(place)
                self.servers[place] = known or Server(address, port, self._health, node=node, mode=mode)

    def _compile(
        self,
        key: str,
        router: StreamRouter,
        service: str,
        services: Mapping[str, Service],
        counters: Any,
        *,
        former: Route | None,
        consumers: Mapping[str, Route] | None,
    ) -> Route:
        return Route(
            key,
            service,
            _list_usable(services, self.servers),
            counters,
            balancer=_build_balancer(service, services, self.servers, former),
            middlewares=[self._middlewares[name] for name in router.middlewares],
            failures=self._failures,
            has_guard=service in self._guarded,
            strict=_find_strict(services.values()),
            consumers=consumers,
        )


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
