"""Routes of protocols where each entrypoint belongs to one service: TCP, UDP and similar ones of plugins.

Takes a section of StreamRouters; returns the route of each entrypoint: its balanced servers, and the middlewares that
decide about access. It sends no traffic itself. Failing servers are set aside, and tried after all others. Implements
`interfaces.Streams`.
"""

import logging
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from maesh_core.model.configuration import Section, Service
from maesh_core.plugin_system.interfaces import Connection, StreamRoute, StreamServer
from maesh_core.plugin_system.middleware import Middleware
from maesh_core.proxy.balancing.balancer import AnyBalancer, build_balancer
from maesh_core.proxy.balancing.division import DividedPart, Division
from maesh_core.proxy.balancing.health import Aside, PassiveHealth
from maesh_core.proxy.middleware.chain import Judge, collect_judges, read_verdict
from maesh_core.proxy.middleware.failures import MiddlewareFailures

_logger = logging.getLogger(__name__)


class Server:
    """One server: its address, its load, and whether it is set aside."""

    __slots__ = ("_health", "aside", "family", "socket_address", "under_way")

    def __init__(self, address: str, port: int, health: PassiveHealth) -> None:
        self.socket_address = (address, port)
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
        return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"

    def note_failure(self) -> None:
        """Set it aside for a while, so that others are tried first."""
        self._health.on_failure(self)

    def note_success(self) -> None:
        """Return it to full use."""
        if self.aside is not None:
            self._health.on_success(self)


AnyStreamBalancer = AnyBalancer[Server] | Division[Server]


class Route:
    """The route of an entrypoint. Without judges, all clients are allowed."""

    __slots__ = ("_admitting", "_failures", "_servers", "_staying", "balancer", "counters", "key", "service")

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
    ) -> None:
        self.key, self.service = key, service
        self.counters = counters
        self._servers = tuple(servers)
        self.balancer = balancer
        self._failures = failures
        self._admitting = collect_judges(middlewares, "on_connect")
        self._staying = collect_judges(middlewares, "is_still_allowed")

    def __repr__(self) -> str:
        return f"<Route to {self.service}>"

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
        """Yield each server once, in the order to try them for one connection; servers set aside are last."""
        tried: list[Server] = []
        while len(tried) < len(self._servers):
            server = self.balancer.pick(tried)
            if server is None or server in tried:
                break
            tried.append(server)
            yield server
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

    __slots__ = ("counters", "routes", "servers")

    def __init__(
        self,
        routes: Mapping[int, Route],
        counters: Mapping[str, Any],
        servers: Mapping[tuple[str, int], Server],
    ) -> None:
        self.routes = routes
        self.counters = counters
        self.servers = servers

    def __repr__(self) -> str:
        return f"<Table {len(self.routes)} entrypoints>"


class Streams:
    """The routes of one protocol. `build_counters` creates the counters of a service."""

    __slots__ = ("_build_counters", "_failures", "_health", "_table", "counters", "routes")

    def __init__(self, health: PassiveHealth, failures: MiddlewareFailures, build_counters: Callable[[], Any]) -> None:
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
        servers: dict[tuple[str, int], Server] = {}
        for key, router in sorted(section.routers.items(), reverse=True):
            services = _list_services(section, router.service)
            for each in (each for service in services.values() for each in service.servers):
                address = (each.address, each.port)
                if address not in servers:
                    servers[address] = current.servers.get(address) or Server(*address, self._health)
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
            )
        return Table(routes, counters, servers)

    def apply_table(self, table: object) -> None:
        """Use this table for new connections."""
        assert isinstance(table, Table)  # noqa: S101 - it is from compile_table
        self._table = table
        self.routes: Mapping[int, StreamRoute[Any]] = table.routes
        self.counters: Mapping[str, Any] = table.counters

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


def _list_services(section: Section, key: str) -> dict[str, Service]:
    """Return a service and its parts, by key."""
    service = section.services[key]
    return {key: service, **{part.service: section.services[part.service] for part in service.parts}}


def _list_usable(services: Mapping[str, Service], servers: Mapping[tuple[str, int], Server]) -> Iterable[Server]:
    """Return the servers with a weight above 0, without duplicates."""
    found = (each for service in services.values() for each in service.servers if each.weight > 0)
    return dict.fromkeys(servers[each.address, each.port] for each in found)


def _build_balancer(
    key: str, services: Mapping[str, Service], servers: Mapping[tuple[str, int], Server], former: Route | None
) -> AnyStreamBalancer:
    """Build the balancer of a service and of each of its parts; rotations continue."""
    before = former.balancer if former is not None else None
    known: dict[str, Any] = {part.key: part.balancer for part in before.parts} if isinstance(before, Division) else {}

    def balance(service: Service, former: AnyBalancer[Server] | None) -> AnyBalancer[Server]:
        weighted = [(servers[each.address, each.port], each.weight) for each in service.servers]
        return build_balancer(weighted, service.load_balancer, former=former)

    service = services[key]
    if not service.parts:
        return balance(service, None if isinstance(before, Division) else before)
    parts = []
    for part in service.parts:
        found = services[part.service]
        own = {servers[each.address, each.port] for each in found.servers}
        parts.append((DividedPart(part.service, balance(found, known.get(part.service)), own), part.weight))
    return Division(parts, former=before if isinstance(before, Division) else None)
