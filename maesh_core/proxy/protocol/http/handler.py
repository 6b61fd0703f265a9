"""The HTTP half of a proxy: its table, its connections, its counters, and how they end.

Implements `hookspecs.ProtocolHandler`. One of these serves every HTTP entrypoint; the admin port has one of its own,
whose every request is answered on the spot.
"""

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from maesh_core.hookspecs import Exchange as ExchangeView
from maesh_core.hookspecs import Listener, Response
from maesh_core.model.configuration import HttpRouter, Section
from maesh_core.model.metrics import MetricFamily
from maesh_core.proxy.clock import Clock
from maesh_core.proxy.protocol.http.client import ClientConnection
from maesh_core.proxy.protocol.http.counters import collect_counters, collect_ejections
from maesh_core.proxy.protocol.http.tunnel import Tunnel
from maesh_core.proxy.protocol.http.upstream import HttpServer, UpstreamConnection
from maesh_core.proxy.routing.http_table import HttpTable, LocalTable, ServerKey, build_table
from maesh_core.proxy.upstream.health import PassiveHealth
from maesh_core.proxy.upstream.tls import UpstreamTls
from maesh_core.settings import CarryingSettings


class HttpHandler:
    """Carries HTTP on the entrypoints opened for it. To be made inside a running event loop."""

    name = "http"
    transport = "TCP"
    router_type = HttpRouter

    def __init__(self, settings: CarryingSettings) -> None:
        loop = asyncio.get_running_loop()
        self.settings = settings
        self.clock = Clock(loop)
        self.clock_time = loop.time
        self.health = PassiveHealth(
            self.clock,
            first_pause_s=settings.server_pause if settings.passive_health else 0.0,
            pause_limit_s=settings.server_pause_limit,
        )
        self.tls = UpstreamTls(root_ca=settings.root_ca, is_verifying=not settings.insecure_skip_verify)
        self.server_name = (settings.node or socket.gethostname()).encode("ascii", "replace")
        self.table: HttpTable | LocalTable = HttpTable()
        self.is_draining = False
        self.clients: set[ClientConnection] = set()
        self.upstreams: set[UpstreamConnection] = set()
        self.tunnels: set[Tunnel] = set()
        self._servers: dict[ServerKey, HttpServer] = {}
        self._refusals: dict[int, int] = {}
        self._refused_connections = 0
        self._middleware_failures: dict[str, int] = {}
        self.clock.add_sweep(self._sweep)

    def __repr__(self) -> str:
        return f"<HttpHandler clients={len(self.clients)} upstreams={len(self.upstreams)} draining={self.is_draining}>"

    # --- configuration

    def compile_table(
        self, section: Section, *, middlewares: Mapping[str, Any], changed: frozenset[str] | None
    ) -> HttpTable:
        """Build the next table; see `hookspecs.ProtocolHandler`."""
        current = self.table if isinstance(self.table, HttpTable) else HttpTable()
        fresh: dict[ServerKey, HttpServer] = {}

        def get_server(key: ServerKey) -> HttpServer:
            server = self._servers.get(key) or fresh.get(key)
            if server is None:
                server = fresh[key] = HttpServer(self, key)
            return server

        return build_table(section, middlewares=middlewares, changed=changed, current=current, get_server=get_server)

    def apply_table(self, table: Any) -> None:
        """Route by this table from now on, and let go of servers that no service has any more."""
        self.table = table
        for server in table.gained:
            server.uses += 1
            self._servers[server.key] = server
        for server in table.lost:
            server.uses -= 1
            if not server.uses:
                self._servers.pop(server.key, None)
                server.remove()
        table.gained, table.lost = [], []

    # --- connections

    async def open_listener(self, sock: socket.socket, entrypoint: int) -> Listener:
        """Accept connections from `sock`."""
        loop = asyncio.get_running_loop()
        return await loop.create_server(lambda: ClientConnection(self, entrypoint), sock=sock)

    def start_draining(self) -> None:
        """Answer what is under way with `Connection: close`; close what is idle."""
        self.is_draining = True
        for client in list(self.clients):
            client.start_draining()

    def is_drained(self) -> bool:
        """Whether no client is connected any more; tunnels end by themselves or are cut in the end."""
        return not (self.clients or self.tunnels)

    def abort(self) -> None:
        """Cut every connection."""
        for client in list(self.clients):
            client.cut()
        for tunnel in list(self.tunnels):
            tunnel.cut()
        for upstream in list(self.upstreams):
            upstream.close()
        self.clock.close()

    def _sweep(self, now: float) -> None:
        for client in list(self.clients):
            if client.deadline <= now:
                client.on_deadline()
        for tunnel in list(self.tunnels):
            if tunnel.deadline <= now:
                tunnel.on_deadline()
        for server in self._servers.values():
            if server.idle:
                server.sweep(now)

    def has_room(self) -> bool:
        """Whether one more client may connect; counts one that may not."""
        limit = self.settings.connection_limit
        if not limit or len(self.clients) + len(self.tunnels) < limit:
            return True
        self._refused_connections += 1
        return False

    # --- counters

    def count_refusal(self, status: int) -> None:
        """Count bytes that were no request, by the status they were answered with."""
        self._refusals[status] = self._refusals.get(status, 0) + 1

    def count_middleware_failure(self, type_: type) -> bool:
        """Count a middleware that raised; True the first time for its type."""
        name = f"{type_.__module__}.{type_.__qualname__}"
        self._middleware_failures[name] = self._middleware_failures.get(name, 0) + 1
        return self._middleware_failures[name] == 1

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Read the counters."""
        counters = self.table.counters if isinstance(self.table, HttpTable) else {}
        services = self.table.services if isinstance(self.table, HttpTable) else {}
        return [
            *collect_counters(counters),
            *collect_ejections(counters, services),
            MetricFamily(
                name="maesh_http_connections",
                type="gauge",
                help="Open HTTP connections, by side.",
                labels=("side",),
                samples=((("client",), len(self.clients)), (("upstream",), len(self.upstreams))),
            ),
            MetricFamily(
                name="maesh_http_tunnels",
                type="gauge",
                help="Pairs of connections that speak another protocol after an upgrade.",
                samples=(((), len(self.tunnels)),),
            ),
            MetricFamily(
                name="maesh_http_refused_connections",
                type="counter",
                help="Clients closed at once: as many as may be were connected.",
                samples=(((), self._refused_connections),),
            ),
            MetricFamily(
                name="maesh_http_refused_requests",
                type="counter",
                help="Requests refused before they were routed, by status.",
                labels=("code",),
                samples=[((str(status),), count) for status, count in sorted(self._refusals.items())],
            ),
            MetricFamily(
                name="maesh_middleware_failures",
                type="counter",
                help="Calls of middlewares that raised.",
                labels=("middleware",),
                samples=[((name,), count) for name, count in sorted(self._middleware_failures.items())],
            ),
        ]


def build_local_handler(settings: CarryingSettings, respond: Callable[[ExchangeView], Response]) -> HttpHandler:
    """Make a handler that answers every request with what `respond` returns for it."""
    handler = HttpHandler(settings)
    handler.table = LocalTable(respond)
    return handler
