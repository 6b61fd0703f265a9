"""What is counted and recorded of one client's TCP connection: its servers, its path, its bytes, and how it ended.

The base of a relay (relay.py), which calls it when something happens. The counters are those of the route, of the
server and of the path. When the connection ends, its record goes to those who observe traffic.
"""

import time
from typing import Any

from maesh_core.model.keys import cut_port_key
from maesh_core.model.traffic_record import TCP, TrafficRecord, build_record
from maesh_core.plugin_system.node import StreamRoute, StreamServer
from maesh_core.proxy.tcp.environment import Counters, Environment
from maesh_core.proxy.tcp.flow import Flow
from maesh_core.proxy.tcp.tunnel_relay import TunnelRelay, TunnelUser
from maesh_core.proxy.transport.paths import Choice


class CountedRelay(TunnelUser):
    """The counted part of a relay.

    `_server` is the server that it is connected or connecting to, `_last_server` the last one that it tried. Bytes go
    through `_flows` to a server's socket, or through `_tunnel`; both are None until there is a connection.
    """

    __slots__ = (
        "_attempts",
        "_choice",
        "_environment",
        "_flows",
        "_last_server",
        "_reason",
        "_received_bytes",
        "_sent_bytes",
        "_server",
        "_started_at",
        "_tunnel",
        "client_address",
        "entrypoint",
        "route",
        "service",
        "would_deny",
    )

    def __init__(
        self, environment: Environment[Any], route: StreamRoute[Counters], *, client_address: str, entrypoint: int
    ) -> None:
        self._environment = environment
        self._flows: tuple[Flow, Flow] | None = None
        self._tunnel: TunnelRelay | None = None
        self._choice: Choice | None = None
        self._server: StreamServer | None = None
        self._last_server: StreamServer | None = None
        self._attempts = 0
        self._started_at = time.time()
        self._reason = ""
        self._received_bytes = self._sent_bytes = 0
        self.route = route
        self.service = route.service
        self.client_address = client_address
        self.entrypoint = entrypoint
        self.active_at = environment.clock.now
        self.would_deny = ""

    def _count_failed_connect(self) -> None:
        self.route.counters.failed_connects += 1
        if self._last_server is not None:
            self.route.count_failure(self._last_server)

    def _count_failed_handshake(self, reason: str) -> None:
        counts = self.route.counters.failed_handshakes
        counts[reason] = counts.get(reason, 0) + 1

    def _count_connected(self) -> None:
        """Count the connection for its server and for its path."""
        if self._server is not None:
            self.route.count_opened(self._server)
        if self._choice is not None:
            paths, service = self._environment.paths, self.route.find_destination(self._server)
            paths.count_connection(service, self._choice)
            paths.count_caller(self.client_address, service, self._choice)

    def count_bytes(self) -> None:
        """Add the bytes moved since the last call to the counters."""
        if self._flows is not None:
            up, down = self._flows
            self._add_bytes(up.moved_bytes, down.moved_bytes)
            up.moved_bytes = down.moved_bytes = 0
        elif self._tunnel is not None:
            self._add_bytes(self._tunnel.received_bytes, self._tunnel.sent_bytes)
            self._tunnel.received_bytes = self._tunnel.sent_bytes = 0

    def _add_bytes(self, received_bytes: int, sent_bytes: int) -> None:
        if not received_bytes and not sent_bytes:
            return
        counters = self.route.counters
        counters.received_bytes += received_bytes
        counters.sent_bytes += sent_bytes
        self._received_bytes += received_bytes
        self._sent_bytes += sent_bytes
        if self._last_server is not None:
            self.route.count_bytes(self._last_server, received=received_bytes, sent=sent_bytes)
        if self._choice is not None:
            self._environment.paths.count_bytes(self.service, self._choice, received_bytes + sent_bytes)

    def _record_end(self) -> None:
        """Count the end of the connection, and pass its record to those who observe traffic."""
        self.route.counters.closed += 1
        if self._environment.node.is_observed:
            self._environment.node.observe(self._build_record())

    def _build_record(self) -> TrafficRecord:
        return build_record(
            TCP,
            started_at=self._started_at,
            duration_s=max(0.0, time.time() - self._started_at),
            client=self.client_address,
            entrypoint=self.entrypoint,
            protocol="TCP",
            service=cut_port_key(self.service),
            destination=self.route.find_destination(self._last_server),
            server=self._last_server.label if self._last_server is not None else "",
            attempts=self._attempts,
            reason=self._reason,
            received_bytes=self._received_bytes,
            sent_bytes=self._sent_bytes,
            server_path=self._choice.kind if self._choice is not None else "",
            server_node=self._last_server.node if self._last_server is not None else "",
            would_deny=self.would_deny,
        )
