"""The HTTP part of a proxy: its routing table, connections and counters, and how it drains.

Takes the configuration and listening sockets. Implements `hookspecs.ProtocolHandler`. One handler serves all HTTP
entrypoints.
"""

import socket
from collections.abc import Mapping, Sequence
from typing import Any

from maesh_core.model.configuration import HttpRouter, Section
from maesh_core.model.metrics import MetricFamily
from maesh_core.plugin_system.hookspecs import Listener
from maesh_core.plugin_system.middleware import Middleware
from maesh_core.proxy.balancing.kinds import BalancerKinds
from maesh_core.proxy.callers import CallerCounts
from maesh_core.proxy.http.clients.client_connection import ClientConnection
from maesh_core.proxy.http.clients.listener import HttpListener
from maesh_core.proxy.http.clients.newcomers import Newcomers
from maesh_core.proxy.http.environment import Environment
from maesh_core.proxy.http.exchanges.exchange import Exchange
from maesh_core.proxy.http.request_counters import collect_counters, collect_ejections
from maesh_core.proxy.http.routing_table import CurrentTable, HttpTable, build_table
from maesh_core.proxy.http.upstreams.connection_pool import HttpServer
from maesh_core.proxy.http.upstreams.server_key import ServerKey
from maesh_core.proxy.middleware.failures import MiddlewareFailures
from maesh_core.proxy.network.clock import Clock
from maesh_core.proxy.observers import Observers
from maesh_core.settings import CarryingSettings


class HttpHandler:
    """Routes HTTP on the entrypoints opened for it. Create it inside a running event loop."""

    __slots__ = ("_balancers", "_newcomers", "_servers", "current", "environment")

    name = "http"
    transport = "TCP"
    router_type = HttpRouter

    def __init__(
        self,
        settings: CarryingSettings,
        clock: Clock,
        *,
        balancers: BalancerKinds | None = None,
        failures: MiddlewareFailures | None = None,
        callers: CallerCounts | None = None,
        observers: Observers | None = None,
    ) -> None:
        self.environment = Environment(settings, clock, failures, callers=callers, observers=observers)
        self.current = CurrentTable(HttpTable())
        self._balancers = balancers or BalancerKinds()
        self._servers: dict[ServerKey, HttpServer] = {}
        self._newcomers: Newcomers | None = None
        self.environment.clock.add_sweep(self._sweep)

    def __repr__(self) -> str:
        return f"<HttpHandler {self.current!r} {self.environment!r}>"

    # --- configuration

    def compile_table(
        self, section: Section, *, middlewares: Mapping[str, Middleware], changed: frozenset[str] | None
    ) -> HttpTable:
        """Build the next table; see `hookspecs.ProtocolHandler`."""
        current = self.current.table
        fresh: dict[ServerKey, HttpServer] = {}

        def get_server(key: ServerKey) -> HttpServer:
            server = self._servers.get(key) or fresh.get(key)
            if server is None:
                server = fresh[key] = HttpServer(self.environment, key)
            return server

        return build_table(
            section,
            middlewares=middlewares,
            changed=changed,
            current=current,
            get_server=get_server,
            balancers=self._balancers,
        )

    def apply_table(self, table: Any) -> None:
        """Use this table from now on, and remove servers that no service includes any more."""
        self.current.table = table
        for server in table.gained:
            server.uses += 1
            self._servers[server.key] = server
        for server in table.lost:
            server.uses -= 1
            if not server.uses:
                self._servers.pop(server.key, None)
                server.remove()
        table.gained, table.lost = [], []
        for tunnel in list(self.environment.tunnels):
            if not tunnel.may_continue():
                tunnel.abort()
        if table.has_lost_judges:
            table.has_lost_judges = False
            self._revoke_exchanges()

    def _revoke_exchanges(self) -> None:
        """End the exchanges in progress that are not allowed under the current routing table."""
        exchanges = [exchange for client in self.environment.clients for exchange in client.list_exchanges()]
        for exchange in exchanges:
            if isinstance(exchange, Exchange) and exchange.run is not None and not exchange.run.may_continue():
                exchange.run.revoke()

    # --- connections

    async def open_listener(self, sock: socket.socket, entrypoint: int) -> Listener:
        """Accept connections from `sock`."""
        environment, current = self.environment, self.current
        if self._newcomers is None:
            self._newcomers = Newcomers(environment)
        return HttpListener(
            self._newcomers, sock, entrypoint, lambda: ClientConnection(environment, current, entrypoint)
        )

    def start_draining(self) -> None:
        """Close idle connections, and answer current exchanges with `Connection: close`."""
        self.environment.is_draining = True
        for client in list(self.environment.clients):
            client.start_draining()

    def is_drained(self) -> bool:
        """Whether no client and no tunnel is left; a drain aborts tunnels that do not end in time."""
        environment = self.environment
        is_waiting = self._newcomers is not None and self._newcomers.is_waiting
        return not (is_waiting or environment.clients or environment.tunnels)

    def count_under_way(self) -> int:
        """Return the number of clients and tunnels that a drain waits for."""
        return len(self.environment.clients) + len(self.environment.tunnels)

    def abort(self) -> None:
        """Abort every connection."""
        environment = self.environment
        environment.is_ending = True
        for waiting in (*environment.clients, *environment.tunnels):
            waiting.abort()
        for upstream in list(environment.upstreams):
            upstream.close()
        environment.peer_watch.close()
        if self._newcomers is not None:
            self._newcomers.close()

    def _sweep(self, now: float) -> None:
        self.environment.sweep(now)
        for server in self._servers.values():
            if server.idle or server.multiplexed:
                server.sweep(now)

    # --- counters

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Return the metrics."""
        table = self.current.table
        return [
            *collect_counters(table.counters, has_exact_codes=self.environment.settings.metrics_exact_codes),
            *collect_ejections(table.counters, table.count_aside()),
            self._collect_attempts(),
            self._collect_aside(),
            *self._collect_connections(),
        ]

    def _collect_attempts(self) -> MetricFamily:
        """Build the metric of servers' attempts; servers of several schemes at one address are summed up."""
        outcomes: dict[tuple[str, str], int] = {}
        for server in self._servers.values():
            for outcome, count in (
                ("response", server.responses - server.errors),
                ("error", server.errors),
                ("failure", server.failures),
            ):
                if count:
                    key = (server.label, outcome)
                    outcomes[key] = outcomes.get(key, 0) + count
        return MetricFamily(
            name="maesh_server_attempts",
            type="counter",
            help="Attempts at servers, by outcome: a response, an error (a 5xx response), or a failure (no response).",
            labels=("server", "outcome"),
            samples=sorted(outcomes.items()),
        )

    def _collect_aside(self) -> MetricFamily:
        """Build the metric of servers that are set aside; others have no sample."""
        aside = {server.label for server in self._servers.values() if server.aside is not None}
        return MetricFamily(
            name="maesh_server_aside",
            type="gauge",
            help="Servers that are set aside after failures; the number of workers that have detected them.",
            labels=("server",),
            samples=[((label,), 1) for label in sorted(aside)],
        )

    def _collect_connections(self) -> Sequence[MetricFamily]:
        environment = self.environment
        return [
            MetricFamily(
                name="maesh_http_connections",
                type="gauge",
                help="Open HTTP connections, by side.",
                labels=("side",),
                samples=((("client",), len(environment.clients)), (("upstream",), len(environment.upstreams))),
            ),
            MetricFamily(
                name="maesh_http_tunnels",
                type="gauge",
                help="Open tunnels: pairs of connections that use another protocol after an upgrade.",
                samples=(((), len(environment.tunnels)),),
            ),
            environment.slots.count_refused("maesh_http_refused_connections"),
            MetricFamily(
                name="maesh_http_evicted_connections",
                type="counter",
                help="Idle connections evicted for new clients at the connection limit.",
                samples=(((), environment.slots.evicted),),
            ),
            MetricFamily(
                name="maesh_http_refused_requests",
                type="counter",
                help="Requests refused before they were routed, by status.",
                labels=("code",),
                samples=[((str(status),), count) for status, count in sorted(environment.refusals.items())],
            ),
            MetricFamily(
                name="maesh_entrypoint_requests",
                type="counter",
                help="Parsed HTTP requests by entrypoint, also those without a route.",
                labels=("entrypoint",),
                samples=[((str(port),), counter.requests) for port, counter in sorted(environment.entrypoints.items())],
            ),
        ]
