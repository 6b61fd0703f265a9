"""One client's TCP connection, joined with a connection to a server.

Connects to a server before it reads from the client, so that a client does not notice a server that refuses. Each
direction is then a `Flow`. The end of one direction is forwarded alone (half-close). A reset is forwarded as a reset,
after the bytes that arrived before it.
"""

import contextlib
import errno
import select
import socket
import struct
from collections.abc import Collection, Iterator
from typing import Final, final

from maesh_core.errors import ServerNotTriedError
from maesh_core.model.traffic_record import CUT, DENIED, NO_SERVER_ACCEPTED
from maesh_core.model.transport import LOCAL
from maesh_core.plugin_system.node import StreamRoute, StreamServer
from maesh_core.plugin_system.transports import Delivery, OpenFailure, Path
from maesh_core.proxy.network.edges import EDGES, GONE
from maesh_core.proxy.tcp.counted_relay import CountedRelay
from maesh_core.proxy.tcp.environment import LOCAL_ERRORS, Counters, Environment
from maesh_core.proxy.tcp.flow import Flow
from maesh_core.proxy.tcp.tls_connection import FAILED, TIMEOUT
from maesh_core.proxy.tcp.tls_path import SocketPath, TlsPath
from maesh_core.proxy.tcp.tunnel_relay import TunnelRelay, build_target
from maesh_core.proxy.transport.opening import NO_ANSWER
from maesh_core.proxy.transport.paths import is_about_path, is_about_server

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with zero time: closing the socket resets the connection."""
_STREAM: Final = int(socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
_BROKEN: Final = select.EPOLLHUP | select.EPOLLERR
_READABLE: Final = select.EPOLLIN | GONE
_CONNECTING: Final = frozenset({0, errno.EINPROGRESS})
"""The results of `connect_ex` for a connection that is open or being opened."""


@final
class Relay(CountedRelay):
    """A client's socket and its server's socket, from accepting the client until both are closed.

    If the server is reached over a path of the transport, `_tunnel` is in the place of the server's socket.
    """

    __slots__ = (
        "_client",
        "_is_put_off",
        "_refusal",
        "_servers",
        "_upstream",
        "allowed_servers",
    )

    exchange = None
    """No HTTP request belongs to it."""

    def __init__(
        self,
        environment: "Environment[Relay]",
        route: StreamRoute[Counters],
        client: socket.SocketType,
        *,
        client_address: str,
        entrypoint: int,
    ) -> None:
        super().__init__(environment, route, client_address=client_address, entrypoint=entrypoint)
        self._client: socket.SocketType | None = client
        self._upstream: socket.SocketType | None = None
        self._refusal = ""
        self._servers: Iterator[StreamServer] = route.list_servers()
        self._is_put_off = False
        self.allowed_servers: Collection[tuple[str, int]] | None = None
        environment.relays.add(self)

    def __repr__(self) -> str:
        """Show both sides."""
        return f"<Relay {self.client_address} to {self._server!r} {self._flows}>"

    @property
    def is_in_clear(self) -> bool:
        """Whether bytes go to the server over a socket; without encryption, it may be on this node."""
        return self._flows is not None and (self._choice is None or self._choice.kind != LOCAL)

    @property
    def server(self) -> tuple[str, int] | None:
        """The server that it is connected or connecting to."""
        return self._server.socket_address if self._server is not None else None

    def connect(self) -> None:
        """Connect to the next server; reset the client if none is left."""
        self._choice = None
        for server in self._servers:
            if self.allowed_servers is not None and server.socket_address not in self.allowed_servers:
                continue
            self._attempts += 1
            self._last_server = server
            if self._open_path(server) if server.mode else self._open_directly(server):
                return
        self.route.counters.refused += 1
        self.route.count_refused()
        self.abort(self._refusal or NO_SERVER_ACCEPTED)

    def _open_directly(self, server: StreamServer) -> bool:
        """Connect to a server without a path of the transport; return False if that has failed already."""
        if not server.uses_tls:
            return self._open_socket(server)
        return self._open_tunnel(server, SocketPath(server), Delivery(*server.socket_address, self.service))

    def _open_socket(self, server: StreamServer) -> bool:
        """Connect a socket to a server; return False if that has failed already."""
        try:
            self._upstream = upstream = socket.SocketType(server.family, _STREAM, 0)
            upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            upstream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if (code := upstream.connect_ex(server.socket_address)) not in _CONNECTING:
                raise OSError(code, "not connected")
            self._environment.sockets.watch(upstream.fileno(), self._on_upstream_event, EDGES)
        except (OSError, OverflowError) as error:  # OverflowError: an invalid port
            self._drop_upstream()
            self._count_failed_connect()
            if getattr(error, "errno", None) not in LOCAL_ERRORS:
                server.note_failure()
            return False
        self._wait_for(server)
        return True

    def _wait_for(self, server: StreamServer) -> None:
        """Record the server that the relay is connecting to."""
        self._server = server
        server.under_way += 1
        self.active_at = self._environment.clock.now
        self._environment.connecting.add(self)

    def switch_route(self, route: StreamRoute[Counters]) -> None:
        """Switch to another route before the connect completes: the previous route's permission no longer applies."""
        server = self._server
        self.route, self.service = route, route.service
        is_kept = server is not None and route.has_server(server) and not self._has_path
        if is_kept and (self.allowed_servers is None or self.server in self.allowed_servers):
            self._servers = _list_others(route, server)
            return
        self._servers = iter(route.list_servers())
        self._environment.connecting.discard(self)
        self._drop_upstream()
        self.connect()

    # --- over a path of the transport

    def _open_path(self, server: StreamServer) -> bool:
        """Open a path to a server, or a socket if it is reached in clear; return False if that has failed already."""
        environment, route = self._environment, self.route
        try:
            choice = self._choice = environment.paths.choose(build_target(server), server.mode)
        except ServerNotTriedError as error:
            self._note_refusal(str(error))
            return False
        if choice.path is None:
            return self._open_directly(server)
        address, port = server.socket_address
        bound = environment.paths.name_client(self.client_address) if route.has_guard else ""
        delivery = Delivery(address, port, route.find_destination(server), bound, "tcp")
        return self._open_tunnel(server, choice.path, delivery)

    def _open_tunnel(self, server: StreamServer, path: Path, delivery: Delivery) -> bool:
        """Open a path to a server, with TLS inside of it if the server speaks TLS."""
        environment, client = self._environment, self._client
        if client is None:
            return False
        if server.uses_tls:
            path = TlsPath(path, server, environment.tls, note_failure=self._note_failed_handshake)
        self._wait_for(server)
        tunnel = self._tunnel = TunnelRelay(self, client, environment)
        tunnel.open(path, delivery)
        return True

    def _note_failed_handshake(self, reason: str, text: str) -> None:
        self._refusal = text
        self._count_failed_handshake(reason)

    def _note_refusal(self, reason: str) -> None:
        self._refusal = reason
        self._count_failed_connect()

    @property
    def waits_for_node(self) -> bool:
        """Whether a path is being opened, and there is no connection to the server's node yet."""
        return self._tunnel is not None and not self._tunnel.has_connection

    def give_up_path(self) -> None:
        """Stop waiting for the server's node."""
        self.on_tunnel_failed(OpenFailure(NO_ANSWER, 0, is_servers_fault=False))

    def on_tunnel_failed(self, failure: OpenFailure) -> None:
        """Connect in clear, try the next server, or reset the client if the server's node denies it."""
        server, paths = self._server, self._environment.paths
        if server is None:
            return
        is_servers_fault = is_about_server(failure)
        if is_servers_fault or not self._has_path:
            if self._has_path:
                paths.note_success(build_target(server))
            self._try_next(server, is_servers_fault=is_servers_fault)
            return
        self._environment.connecting.discard(self)
        self._drop_upstream()
        if is_about_path(failure):
            paths.note_failure(build_target(server), failure.reason)
            if self._fall_back(server, failure.reason):
                return
        else:
            paths.note_success(build_target(server))
            self._note_refusal(failure.reason)
        if failure.status == 403:
            self.route.counters.denied += 1
            self._environment.node.count_denial(self.client_address, self.route.service)
            self.abort(failure.reason or DENIED)
        else:
            self.connect()

    def _fall_back(self, server: StreamServer, reason: str) -> bool:
        """Connect to a server in clear, because its node was not reached; return False if that must not be."""
        try:
            self._choice = self._environment.paths.replace_failed(build_target(server), server.mode, reason)
        except ServerNotTriedError as error:
            self._note_refusal(str(error))
            return False
        return self._open_directly(server)

    @property
    def _has_path(self) -> bool:
        """Whether the connection is opened over a path of the transport."""
        return self._choice is not None and self._choice.path is not None

    def on_tunnel_open(self) -> None:
        """Start to move bytes."""
        environment, server, client, tunnel = self._environment, self._server, self._client, self._tunnel
        if server is None or client is None or tunnel is None:
            return
        environment.connecting.discard(self)
        if self._has_path:
            environment.paths.note_success(build_target(server))
        server.note_success()
        self._count_connected()
        self.active_at = environment.clock.now
        try:
            environment.sockets.watch(client.fileno(), tunnel.on_client_event, EDGES)
        except OSError:
            self.abort()

    # --- over a socket

    def give_up_connecting(self) -> None:
        """Try the next server, since this one does not respond."""
        tunnel, server = self._tunnel, self._server
        if tunnel is not None and tunnel.is_in_handshake:
            self._note_failed_handshake(TIMEOUT, f"{FAILED}: it took too long")
        if server is not None:
            self._try_next(server, is_servers_fault=True)

    def _try_next(self, server: StreamServer, *, is_servers_fault: bool) -> None:
        """Give up a server, and try the next one."""
        self._environment.connecting.discard(self)
        if is_servers_fault:
            server.note_failure()
        self._drop_upstream()
        self._count_failed_connect()
        self.connect()

    def _on_connect_event(self, events: int) -> None:
        upstream, client = self._upstream, self._client
        if upstream is None or client is None:
            return
        if events & _BROKEN and upstream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.give_up_connecting()
            return
        if not events & select.EPOLLOUT:
            return
        environment = self._environment
        environment.connecting.discard(self)
        if self._server is not None:
            self._server.note_success()
        self._count_connected()
        buffer, pipes, sockets = environment.buffer, environment.pipes, environment.sockets
        up, down = self._flows = Flow(client, upstream, buffer, pipes), Flow(upstream, client, buffer, pipes)
        try:
            sockets.watch(client.fileno(), self._on_client_event, EDGES)  # writability triggers an event at once
        except OSError:
            self.abort()
            return
        if events & _READABLE:
            self._move_bytes(down, up, events)

    def _on_client_event(self, events: int) -> None:
        if self._flows is not None:
            up, down = self._flows
            self._move_bytes(up, down, events)

    def _on_upstream_event(self, events: int) -> None:
        if self._flows is not None:
            up, down = self._flows
            self._move_bytes(down, up, events)
        else:
            self._on_connect_event(events)

    def _move_bytes(self, incoming: Flow, outgoing: Flow, events: int) -> None:
        """Move bytes after an event of one socket; `incoming` reads from that socket, `outgoing` writes to it."""
        self.active_at = self._environment.clock.now
        if events & GONE:
            incoming.is_ending = True
        if events & _BROKEN:
            self._pump(incoming, outgoing)
            self._note_reset(events)
        elif not outgoing.is_blocked:
            if events & _READABLE:
                self._pump(incoming)
        elif events & _READABLE:
            self._pump(incoming, outgoing)
        else:
            self._pump(outgoing)

    def _note_reset(self, events: int) -> None:
        """Limit the wait if one side was reset and the other has not received all earlier bytes yet.

        Nothing else would end this wait: a reset is reported only once, and a peer that does not read may stay
        connected forever.
        """
        if events & select.EPOLLERR and self._flows is not None:
            self._environment.resetting.add(self)

    def _pump(self, *flows: Flow) -> None:
        """Move bytes of these flows. A reset of one side resets both, after the other flow's bytes."""
        if self._flows is None:
            return
        up, down = self._flows
        has_more = False
        for flow in flows:
            other = down if flow is up else up
            try:
                has_more = flow.pump(is_last=other.is_done) or has_more
            except OSError:
                with contextlib.suppress(OSError):
                    other.pump(with_end=False)
                self.abort()
                return
        if up.is_done and down.is_done:
            self.close()
        elif has_more and not self._is_put_off:
            self._is_put_off = True
            self._environment.sockets.put_off(self._go_on)

    def _go_on(self) -> None:
        self._is_put_off = False
        if self._flows is not None:
            self.active_at = self._environment.clock.now
            self._pump(*self._flows)

    def abort(self, reason: str = CUT) -> None:
        """Reset both connections. `reason` is the one in the record of the connection."""
        self._reason = reason
        for sock in (self._client, self._upstream):
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        if self._tunnel is not None:
            self._tunnel.abort()
        self.close()

    def close(self) -> None:
        """Close both sides; bytes that were written are still sent."""
        client, self._client = self._client, None
        if client is None:
            return
        self.count_bytes()
        if self._flows is not None:
            up, down = self._flows
            self._flows = None
            up.close()
            down.close()
        self._record_end()
        environment = self._environment
        environment.connecting.discard(self)
        environment.resetting.discard(self)
        environment.exposed.pop(self, None)
        self._drop_upstream()
        environment.sockets.close_socket(client)
        environment.relays.discard(self)
        environment.slots.release(self.client_address)

    def _drop_upstream(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            self._environment.sockets.close_socket(upstream)
        tunnel, self._tunnel = self._tunnel, None
        if tunnel is not None:
            tunnel.close()
        server, self._server = self._server, None
        if server is not None:
            server.under_way -= 1


def _list_others(route: StreamRoute[Counters], server: StreamServer | None) -> Iterator[StreamServer]:
    """Yield a route's servers except one; each server is chosen only when it is requested."""
    for each in route.list_servers():
        if each is not server:
            yield each
