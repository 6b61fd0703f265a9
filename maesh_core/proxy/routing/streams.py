"""Routes of protocols where each entrypoint belongs to one service: TCP, UDP and similar ones of plugins.

Takes a section of StreamRouters; returns the route of each entrypoint, and those for clients of a namespace
(stream_routes.py). Unchanged routes, servers and counters of the current table are kept. Implements `node.Streams`.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from maesh_core.model.configuration import Section, Service, StreamRouter, list_targets
from maesh_core.model.configuration import Server as ConfiguredServer
from maesh_core.model.keys import is_rule_key
from maesh_core.model.metrics import MetricFamily
from maesh_core.model.schemes import TLS
from maesh_core.plugin_system.interfaces import Connection
from maesh_core.plugin_system.middleware import Middleware
from maesh_core.plugin_system.node import StreamRoute
from maesh_core.plugin_system.transports import OFF, STRICT
from maesh_core.proxy.balancing.balancer import AnyBalancer, build_balancer
from maesh_core.proxy.balancing.division import DividedPart, Division
from maesh_core.proxy.balancing.health import PassiveHealth
from maesh_core.proxy.middleware.failures import MiddlewareFailures
from maesh_core.proxy.routing.stream_counts import (
    CountedNames,
    StreamCounts,
    collect_aside,
    collect_branches,
    collect_rules,
    collect_servers,
)
from maesh_core.proxy.routing.stream_routes import (
    NO_BRANCHES,
    AnyStreamBalancer,
    Route,
    Server,
    ServerKey,
    StrictServers,
    is_encrypted_outside,
)
from maesh_core.proxy.transport.guards import list_guarded

Parts = Mapping[str, Mapping[str, StreamCounts]]
"""The counters of the parts of split services, or of rules, by the key of the service port and of the part or rule."""


class Table:
    """The routes by entrypoint, and the counters, servers, branches and rules that they share."""

    __slots__ = ("branches", "counters", "has_strict_services", "routes", "rules", "servers")

    def __init__(
        self,
        routes: Mapping[int, Route],
        counters: Mapping[str, Any],
        servers: Mapping[ServerKey, Server],
        branches: Parts,
        rules: Parts,
    ) -> None:
        self.routes = routes
        self.counters = counters
        self.servers = servers
        self.branches = branches
        self.rules = rules
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
        self.apply_table(Table({}, {}, {}, {}, {}))

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
        return Table(routes, counters, compiler.servers, compiler.branches, compiler.rules)

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

    def collect_parts(self, protocol: str, *, opened: str, failed: str) -> Sequence[MetricFamily]:
        """Build the metrics of servers, of the branches of split services, and of rules."""
        names, servers = CountedNames(protocol, opened, failed), self._table.servers.values()
        return [
            *collect_servers(names, ((server.describe(), server.counts) for server in servers)),
            collect_aside(names, (server.describe() for server in servers if server.is_set_aside)),
            *collect_branches(names, self._table.branches),
            *collect_rules(names, self._table.rules),
        ]

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

    __slots__ = (
        "_changed",
        "_current",
        "_failures",
        "_guarded",
        "_health",
        "_middlewares",
        "_section",
        "branches",
        "rules",
        "servers",
    )

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
        self.branches: dict[str, Mapping[str, StreamCounts]] = {}
        """The counters of their branches; those of branches that they had before continue."""
        self.rules: dict[str, Mapping[str, StreamCounts]] = {}
        """The same of their rules."""

    def __repr__(self) -> str:
        return f"<_TableCompiler {len(self.servers)} servers>"

    def compile_router(self, key: str, router: StreamRouter, counters: Any) -> Route:
        """Compile a router, with the routes for clients of a namespace."""
        reached = {each: _list_services(self._section, each) for each in list_targets(router)}
        for services in reached.values():
            self._add_servers(services)
        self._add_branches(key, reached)
        self._add_rules(key, reached)
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
                self.servers[place] = self._current.servers.get(place) or Server(place, self._health)

    def _add_branches(self, key: str, reached: Mapping[str, Mapping[str, Service]]) -> None:
        former = self._current.branches.get(key, NO_BRANCHES)
        names = [part.service for target, services in reached.items() for part in services[target].parts]
        if names:
            self.branches[key] = {name: former.get(name) or StreamCounts() for name in dict.fromkeys(names)}

    def _add_rules(self, key: str, targets: Iterable[str]) -> None:
        former = self._current.rules.get(key, NO_BRANCHES)
        names = [target for target in targets if is_rule_key(target, key)]
        if names:
            self.rules[key] = {name: former.get(name) or StreamCounts() for name in names}

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
            branches=self.branches.get(key, NO_BRANCHES),
            rule=self.rules.get(key, NO_BRANCHES).get(service),
            consumers=consumers,
        )


def _build_key(service: Service, server: ConfiguredServer) -> ServerKey:
    """Build the key of a server; without encryption, its node does not matter."""
    uses_tls = service.scheme == TLS
    is_bare = service.encryption == OFF or is_encrypted_outside(service, server)
    return ServerKey(
        server.address,
        server.port,
        node="" if is_bare else server.node,
        mode="" if is_bare else service.encryption,
        uses_tls=uses_tls,
        tls_name=server.tls_name if uses_tls else "",
        name=server.name,
    )


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
