"""The HTTP part of a proxy: its routing table, connections and counters, and how it drains.

Takes the configuration and listening sockets. Implements `protocols.ProtocolHandler`. One handler serves all HTTP
entrypoints.
"""

import socket
from collections.abc import Mapping, Sequence
from typing import Any, cast

from maesh_core.model.configuration import HttpRouter, Section
from maesh_core.model.metrics import MetricFamily
from maesh_core.model.transport import CLEAR
from maesh_core.plugin_system.middleware import Middleware
from maesh_core.plugin_system.protocols import Listener
from maesh_core.plugin_system.transports import STRICT, Delivery, OutgoingProtocol, Refusal
from maesh_core.proxy.balancing.kinds import BalancerKinds
from maesh_core.proxy.callers import CallerCounts, collect_entrypoints
from maesh_core.proxy.http.clients.client_connection import ClientConnection
from maesh_core.proxy.http.clients.delivered_connection import DeliveredConnection
from maesh_core.proxy.http.clients.listener import HttpListener
from maesh_core.proxy.http.clients.newcomers import Newcomers
from maesh_core.proxy.http.copies import DENIED
from maesh_core.proxy.http.delivered_table import UNKNOWN, DeliveredTable, build_delivered_table
from maesh_core.proxy.http.environment import Environment
from maesh_core.proxy.http.exchanges.exchange import Exchange
from maesh_core.proxy.http.http2.multiplexed_upstream import MultiplexedUpstream
from maesh_core.proxy.http.request_counters import collect_counters, collect_ejections
from maesh_core.proxy.http.routing_table import CurrentTable, HttpTable, build_table
from maesh_core.proxy.http.server_counters import collect_servers
from maesh_core.proxy.http.upstreams.connection_pool import HttpServer
from maesh_core.proxy.http.upstreams.guarded_server import GuardedServer
from maesh_core.proxy.http.upstreams.server_key import ServerKey
from maesh_core.proxy.http.upstreams.upstream_connection import UpstreamConnection
from maesh_core.proxy.middleware.failures import MiddlewareFailures
from maesh_core.proxy.network.clock import Clock
from maesh_core.proxy.observers import Observers
from maesh_core.proxy.transport.paths import EXPOSED, EXPOSED_LIMIT_S, Paths
from maesh_core.settings import CarryingSettings


class HttpHandler:
    """Routes HTTP on the entrypoints opened for it. Create it inside a running event loop."""

    __slots__ = ("_balancers", "_delivered", "_exposed", "_newcomers", "_servers", "current", "environment")

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
        paths: Paths | None = None,
    ) -> None:
        self.environment = Environment(settings, clock, failures, callers=callers, observers=observers, paths=paths)
        self.environment.paths.add_listener(self._on_nodes_changed)
        self.current = CurrentTable(HttpTable())
        self._balancers = balancers or BalancerKinds()
        self._servers: dict[ServerKey, HttpServer] = {}
        self._delivered: dict[tuple[str, str, int], DeliveredTable] = {}
        """What other nodes may reach here, by service and server."""
        self._exposed: dict[ServerKey, float] = {}
        """Former keys of servers whose service has become strict, and when connections in clear end."""
        self._newcomers: Newcomers | None = None
        self.environment.clock.add_sweep(self._sweep)

    def __repr__(self) -> str:
        return f"<HttpHandler {self.current!r} {self.environment!r}>"

    # --- configuration

    def compile_table(
        self, section: Section, *, middlewares: Mapping[str, Middleware], changed: frozenset[str] | None
    ) -> HttpTable:
        """Build the next table; see `protocols.ProtocolHandler`."""
        current = self.current.table
        fresh: dict[ServerKey, HttpServer] = {}

        def get_server(key: ServerKey) -> HttpServer:
            server = self._servers.get(key) or fresh.get(key)
            if server is None:
                kind = GuardedServer if key.is_guarded else HttpServer
                server = fresh[key] = kind(self.environment, key)
            return server

        return build_table(
            section,
            middlewares=middlewares,
            changed=changed,
            current=current,
            get_server=get_server,
            balancers=self._balancers,
            paths=self.environment.paths,
        )

    def apply_table(self, table: Any) -> None:
        """Use this table from now on, and remove servers that no service includes any more."""
        self.current.table = table
        for server in table.gained:
            server.uses += 1
            self._servers[server.key] = server
        for server in table.lost:
            server.uses -= 1
        self._remove_servers([server for server in dict.fromkeys(table.lost) if not server.uses])
        table.gained, table.lost = [], []
        for key, delivered in list(self._delivered.items()):
            if not delivered.is_current:
                self._delivered.pop(key).server.remove()
        for tunnel in list(self.environment.tunnels):
            revocation = tunnel.find_revocation()
            if revocation:
                tunnel.abort(revocation)
        if table.has_lost_judges:
            table.has_lost_judges = False
            self.environment.copies.abort(DENIED)
            self._revoke_exchanges()

    def apply_namespaces(self, namespaces: Mapping[str, str]) -> None:
        """Use these namespaces of clients, by address, from now on."""
        self.current.namespaces = namespaces

    def _remove_servers(self, removed: Sequence[HttpServer]) -> None:
        """Remove servers. If the address remains with another scheme, its metrics keep what they have counted."""
        for server in removed:
            self._servers.pop(server.key, None)
            server.remove()
        remaining = {server.label: server for server in self._servers.values()} if removed else {}
        if removed:
            self._note_exposed(removed)
        for server in removed:
            heir = remaining.get(server.label)
            if heir is not None:
                heir.counters.add(server.counters)

    def _note_exposed(self, removed: Sequence[HttpServer]) -> None:
        """Note the servers to which connections in clear are not allowed any more, and must end in time."""
        is_local = self.environment.paths.is_local
        strict = {
            key[:4] for key in self._servers if key.mode == STRICT and not is_local(key.node)
        }  # scheme, address, port and name
        deadline = self.environment.clock.now + EXPOSED_LIMIT_S
        for server in removed:
            if server.key.mode != STRICT and server.key[:4] in strict:
                self._exposed.setdefault(server.key, deadline)

    def _end_exposed(self, now: float) -> None:
        """End connections in clear whose service has become strict, if their time is over."""
        ended = [key for key, deadline in self._exposed.items() if now >= deadline]
        for key in ended:
            del self._exposed[key]
            if key in self._servers:  # the service has changed back
                continue
            for upstream in list(self.environment.upstreams):
                if isinstance(upstream, UpstreamConnection | MultiplexedUpstream) and _is_in_clear(upstream, key):
                    upstream.close()
            for tunnel in list(self.environment.tunnels):
                if tunnel.is_in_clear and tunnel.server_key == key:
                    tunnel.abort(EXPOSED)

    def _revoke_exchanges(self) -> None:
        """End the exchanges in progress that are not allowed under the current routing table."""
        exchanges = [exchange for client in self.environment.clients for exchange in client.list_exchanges()]
        for exchange in exchanges:
            if isinstance(exchange, Exchange) and exchange.run is not None and exchange.run.find_revocation():
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

    async def open_delivery(self, delivery: Delivery) -> OutgoingProtocol | Refusal:
        """Build the protocol for a stream of another node whose requests are judged, if the server can be reached."""
        key = (delivery.service, delivery.address, delivery.port)
        table = self._delivered.get(key)
        if table is None:
            table = build_delivered_table(self.environment, self.current, delivery)
            if table is None:
                return UNKNOWN
            self._delivered[key] = table
        refusal = await table.reach()
        return refusal or cast("OutgoingProtocol", DeliveredConnection(self.environment, table, delivery.client))

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
        environment.copies.abort()
        for waiting in (*environment.clients, *environment.tunnels):
            waiting.abort()
        for upstream in list(environment.upstreams):
            upstream.close()
        environment.peer_watch.close()
        if self._newcomers is not None:
            self._newcomers.close()

    def _sweep(self, now: float) -> None:
        self.environment.sweep(now)
        for table in self._delivered.values():
            table.server.sweep(now)
        if self._exposed:
            self._end_exposed(now)
        for server in self._servers.values():
            if server.idle or server.multiplexed or server.is_divided:
                server.sweep(now)

    def _on_nodes_changed(self) -> None:
        """Replace connections to servers that are reached in another way from now on."""
        for server in self._servers.values():
            if server.key.mode:
                server.follow_path()

    # --- counters

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Return the metrics."""
        table, settings = self.current.table, self.environment.settings
        has_exact_codes = settings.metrics_exact_codes
        return [
            *collect_counters(table.counters, has_exact_codes=has_exact_codes),
            *collect_ejections(table.counters, table.count_aside()),
            *collect_servers(
                [(server.label, server.counters) for server in self._servers.values()],
                has_exact_codes=has_exact_codes,
                has_durations=settings.metrics_fine_durations,
            ),
            *collect_entrypoints(self.environment.entrypoint_counters, has_exact_codes=has_exact_codes),
            self._collect_aside(),
            *self._collect_connections(),
            *self.environment.copies.collect(),
        ]

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
        ]


def _is_in_clear(upstream: UpstreamConnection | MultiplexedUpstream, key: ServerKey) -> bool:
    """Return whether a connection to this server is in clear."""
    server, path = upstream.server, upstream.path
    return isinstance(server, HttpServer) and server.key == key and (path is None or path.kind == CLEAR)
