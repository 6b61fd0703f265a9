"""The TCP part of a proxy: maps entrypoints to services, and relays connections.

Implements `protocols.ProtocolHandler`. Uses raw sockets on an edge-triggered epoll (proxy/network/edges.py). A
connection keeps its initial route. When its entrypoint gets another route or none, it continues until one side closes
it, unless a middleware had allowed it and no longer can.
"""

import socket
import time
from collections.abc import Mapping, Sequence

from maesh_core.model.configuration import Section, StreamRouter
from maesh_core.model.metrics import MetricFamily
from maesh_core.model.traffic_record import DENIED, EXCESS_CLIENT, IDLE, PROXY_ENDED, REFUSED, UNROUTED, build_record
from maesh_core.plugin_system.middleware import Middleware
from maesh_core.plugin_system.node import Node
from maesh_core.plugin_system.protocols import Listener
from maesh_core.proxy.http.tls import UpstreamTls
from maesh_core.proxy.tcp.environment import Counters, Environment
from maesh_core.proxy.tcp.listener import TcpListener
from maesh_core.proxy.tcp.relay import RESET, Relay
from maesh_core.proxy.transport.paths import EXPOSED, EXPOSED_LIMIT_S, PATH_SHARE, Paths

_METRICS = {
    "opened": ("maesh_tcp_connections", "TCP connections accepted."),
    "closed": ("maesh_tcp_closed_connections", "TCP connections that ended."),
    "denied": ("maesh_tcp_denied_connections", "TCP connections that a middleware denied."),
    "refused": ("maesh_tcp_refused_connections", "TCP connections closed because no server accepted them."),
    "failed_connects": ("maesh_tcp_failed_connects", "Failed connects to servers."),
    "received_bytes": ("maesh_tcp_received_bytes", "Bytes received from clients."),
    "sent_bytes": ("maesh_tcp_sent_bytes", "Bytes sent to clients."),
}
"""The counters of a service, with the name and help of their metrics."""


class TcpHandler:
    """Relays TCP on the entrypoints opened for it. Create it inside a running event loop."""

    name = "tcp"
    transport = "TCP"
    router_type = StreamRouter

    def __init__(self, node: Node, paths: Paths | None = None, tls: UpstreamTls | None = None) -> None:
        self._settings = node.settings
        self._streams = node.build_streams(Counters)
        self.environment: Environment[Relay] = Environment(node, paths, tls)
        node.clock.add_sweep(self._sweep)

    def __repr__(self) -> str:
        return f"<TcpHandler {self._streams!r} {self.environment!r}>"

    def compile_table(
        self, section: Section, *, middlewares: Mapping[str, Middleware], changed: frozenset[str] | None
    ) -> object:
        """Build the next table; see `protocols.ProtocolHandler`."""
        return self._streams.compile_table(section, middlewares=middlewares, changed=changed)

    def apply_table(self, table: object) -> None:
        """Use this table for new connections, and abort those that are no longer allowed."""
        self._streams.apply_table(table)
        for relay in list(self.environment.connecting):
            self._reroute(relay)
        for relay in list(self.environment.relays):
            if not self._streams.may_go_on(relay, relay.route):
                self._deny(relay)
        self._note_exposed()

    def apply_namespaces(self, namespaces: Mapping[str, str]) -> None:
        """Use these namespaces of clients, by address, for new connections."""
        self._streams.apply_namespaces(namespaces)

    def _note_exposed(self) -> None:
        """Note the connections in clear that are not allowed any more, and must end in time."""
        environment = self.environment
        exposed, deadline = environment.exposed, environment.clock.now + EXPOSED_LIMIT_S
        if not self._streams.has_strict_services:
            exposed.clear()
            return
        for relay in environment.relays:
            if self._is_exposed(relay):
                exposed.setdefault(relay, deadline)
            else:
                exposed.pop(relay, None)

    def _is_exposed(self, relay: Relay) -> bool:
        """Return whether a connection is in clear to another node, although its service is strict now."""
        if not relay.is_in_clear:
            return False
        node = self._streams.must_encrypt(relay)
        return node is not None and not self.environment.paths.is_local(node)

    def _reroute(self, relay: Relay) -> None:
        """Start a connection that has no server yet again, if its entrypoint has a new route."""
        route = self._streams.find_current_route(relay)
        if route is relay.route:
            return
        relay.allowed_servers, relay.would_deny = None, ""
        if route is None:
            relay.route.counters.refused += 1
            relay.abort(UNROUTED)
        elif route.admits(relay):
            relay.switch_route(route)
        else:
            self._deny(relay)

    def _deny(self, relay: Relay) -> None:
        relay.route.counters.denied += 1
        self.environment.node.count_denial(relay.client_address, relay.route.service)
        relay.abort(DENIED)

    async def open_listener(self, sock: socket.socket, entrypoint: int) -> Listener:
        """Accept connections from `sock`."""
        return TcpListener(self.environment.sockets, sock, entrypoint, self._accept)

    def _accept(self, client: socket.SocketType, client_address: str, entrypoint: int) -> None:
        """Relay a new client, or refuse it."""
        route = self._streams.find_route(entrypoint, client_address)
        environment = self.environment
        taken = len(environment.relays)
        if route is None or not environment.slots.acquire(client_address, self._settings, taken=taken):
            if environment.node.is_observed:
                self._report_refusal(client_address, entrypoint, UNROUTED if route is None else EXCESS_CLIENT)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            client.close()
            return
        relay = Relay(environment, route, client, client_address=client_address, entrypoint=entrypoint)
        route.counters.opened += 1
        environment.node.count_connection(client_address, route.service)
        if route.admits(relay):
            relay.connect()
        else:
            self._deny(relay)

    def _report_refusal(self, address: str, entrypoint: int, reason: str) -> None:
        self.environment.node.observe(
            build_record(
                REFUSED,
                started_at=time.time(),
                duration_s=0.0,
                client=address,
                entrypoint=entrypoint,
                protocol="TCP",
                reason=reason,
            )
        )

    def start_draining(self) -> None:
        """Do nothing: TCP has no way to announce a drain, so connections continue."""

    def is_drained(self) -> bool:
        """Whether every connection has ended."""
        return not self.environment.relays

    def count_under_way(self) -> int:
        """Count the open connections."""
        return len(self.environment.relays)

    def abort(self) -> None:
        """Reset every connection."""
        for relay in list(self.environment.relays):
            relay.abort(PROXY_ENDED)
        self.environment.pipes.close()

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Return the metrics, including the bytes of open connections."""
        for relay in self.environment.relays:
            relay.count_bytes()
        counted = sorted(self._streams.counters.items())
        families = [
            MetricFamily(
                name=name,
                type="counter",
                help=text,
                labels=("service",),
                samples=[((service,), float(getattr(counters, attribute))) for service, counters in counted],
            )
            for attribute, (name, text) in _METRICS.items()
        ]
        handshakes = MetricFamily(
            name="maesh_tcp_failed_handshakes",
            type="counter",
            help="Failed TLS handshakes with servers.",
            labels=("service", "reason"),
            samples=[
                ((service, reason), float(count))
                for service, counters in counted
                for reason, count in sorted(counters.failed_handshakes.items())
            ],
        )
        parts = self._streams.collect_parts("tcp", opened="connections", failed="failed_connects")
        return [*families, handshakes, *parts, self.environment.slots.count_refused("maesh_tcp_excess_connections")]

    def _sweep(self, now: float) -> None:
        """Handle expired waits: for a connect, or for a byte from either side."""
        environment = self.environment
        connect_limit, idle_limit = self._settings.connect_timeout, self._settings.tunnel_timeout
        for relay in list(environment.connecting):
            if now - relay.active_at > connect_limit > 0:
                relay.give_up_connecting()
            elif relay.waits_for_node and now - relay.active_at > connect_limit * PATH_SHARE > 0:
                relay.give_up_path()
        for relay, deadline in list(environment.exposed.items()):
            if now >= deadline:
                relay.abort(EXPOSED)
        for relay in list(environment.resetting):
            if now - relay.active_at > self._settings.body_timeout:
                relay.abort()
        for relay in environment.relays - environment.connecting if idle_limit else ():
            if now - relay.active_at > idle_limit:
                relay.abort(IDLE)
