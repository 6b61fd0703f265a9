"""One client's TCP connection and the one to its server, joined.

A server is found before a byte of the client is read, so one that refuses is never noticed. Then each direction is a
`Flow`. One side's end of stream is passed on alone (half-close), and a reset becomes a reset, behind what had come
before it.
"""

import contextlib
import errno
import select
import socket
import struct
from collections.abc import Collection, Iterator

from maesh_core.interfaces import StreamRoute, StreamServer
from maesh_core.proxy.edges import EDGES, GONE
from maesh_core.proxy.protocol.tcp.environment import Environment
from maesh_core.proxy.protocol.tcp.flow import Flow

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing resets."""
_STREAM = socket.SOCK_STREAM | socket.SOCK_NONBLOCK
_OF_THIS_NODE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Errors of connecting that say nothing of the server."""


class Relay:
    """The two sockets, from the client's arrival until both are closed."""

    __slots__ = (
        "_client",
        "_environment",
        "_flows",
        "_is_put_off",
        "_server",
        "_servers",
        "_upstream",
        "active_at",
        "allowed_servers",
        "client_address",
        "entrypoint",
        "route",
        "service",
    )

    exchange = None
    """No request has made it."""

    def __init__(
        self,
        environment: Environment,
        route: StreamRoute,
        client: socket.socket,
        *,
        client_address: str,
        entrypoint: int,
    ) -> None:
        self._environment = environment
        self._client: socket.socket | None = client
        self._upstream: socket.socket | None = None
        self._flows: tuple[Flow, Flow] | None = None
        self._servers: Iterator[StreamServer] = route.list_servers()
        self._server: StreamServer | None = None
        self._is_put_off = False
        self.route = route
        self.service = route.service
        self.client_address = client_address
        self.entrypoint = entrypoint
        self.active_at = environment.clock.now
        self.allowed_servers: Collection[tuple[str, int]] | None = None
        environment.relays.add(self)

    def __repr__(self) -> str:
        """Show what is joined."""
        return f"<Relay {self.client_address} to {self._server!r} {self._flows}>"

    @property
    def server(self) -> tuple[str, int] | None:
        """The server that it is connected or connecting to."""
        return self._server.socket_address if self._server is not None else None

    def connect(self) -> None:
        """Connect to the next server; reset the client when there is none left."""
        for server in self._servers:
            if self.allowed_servers is not None and server.socket_address not in self.allowed_servers:
                continue
            try:
                upstream = socket.socket(server.family, _STREAM)
                self._upstream = upstream
                upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                upstream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                with contextlib.suppress(BlockingIOError):
                    upstream.connect(server.socket_address)
                self._environment.sockets.watch(upstream.fileno(), self._on_connect_event, EDGES)
            except (OSError, OverflowError) as error:  # the latter: a port that there cannot be
                self._drop_upstream()
                self.route.counters.failed_connects += 1
                if getattr(error, "errno", None) not in _OF_THIS_NODE:
                    server.note_failure()
                continue
            self._server = server
            server.under_way += 1
            self.active_at = self._environment.clock.now
            self._environment.connecting.add(self)
            return
        self.route.counters.refused += 1
        self.abort()

    def adopt(self, route: StreamRoute) -> None:
        """Go on by another route, while no server has taken the connection: what the old one allowed is over."""
        server = self._server
        self.route, self.service = route, route.service
        self._servers = (each for each in route.list_servers() if each is not server)
        is_kept = server is not None and route.has_server(server)
        if is_kept and (self.allowed_servers is None or self.server in self.allowed_servers):
            return
        self._environment.connecting.discard(self)
        self._drop_upstream()
        self.connect()

    def give_up_connecting(self) -> None:
        """Try the next server: this one does not answer."""
        self._environment.connecting.discard(self)
        if self._server is not None:
            self._server.note_failure()
        self._drop_upstream()
        self.route.counters.failed_connects += 1
        self.connect()

    def _on_connect_event(self, events: int) -> None:
        upstream, client = self._upstream, self._client
        if upstream is None or client is None:
            return
        if events & (select.EPOLLERR | select.EPOLLHUP) and upstream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.give_up_connecting()
            return
        if not events & select.EPOLLOUT:
            return
        environment = self._environment
        environment.connecting.discard(self)
        if self._server is not None:
            self._server.note_success()
        buffer, pipes, sockets = environment.buffer, environment.pipes, environment.sockets
        self._flows = Flow(client, upstream, buffer, pipes), Flow(upstream, client, buffer, pipes)
        self._flows[1].is_ending = bool(events & GONE)
        sockets.rewatch(upstream.fileno(), self._on_upstream_event)
        try:
            sockets.watch(client.fileno(), self._on_client_event, EDGES)
        except OSError:
            self.abort()
            return
        self._pump()

    def _on_client_event(self, events: int) -> None:
        if self._flows is not None:
            if events & GONE:
                self._flows[0].is_ending = True
            self._pump()
            self._note_reset(events)

    def _on_upstream_event(self, events: int) -> None:
        if self._flows is not None:
            if events & GONE:
                self._flows[1].is_ending = True
            self._pump()
            self._note_reset(events)

    def _note_reset(self, events: int) -> None:
        """Limit the wait where one side was reset and the other has yet to take what had come before.

        Nothing else would end it: a reset is reported once, and a side that takes nothing may live for ever.
        """
        if events & select.EPOLLERR and self._flows is not None:
            self._environment.resetting.add(self)

    def _pump(self) -> None:
        """Carry both ways what can be carried; a reset of one side resets both."""
        if self._flows is None:
            return
        self.active_at = self._environment.clock.now
        has_more = is_reset = False
        for flow in self._flows:
            try:
                has_more = flow.pump(with_end=not is_reset) or has_more
            except OSError:
                is_reset = True
        if is_reset:
            self.abort()
        elif self._flows[0].is_done and self._flows[1].is_done:
            self._close()
        elif has_more and not self._is_put_off:
            self._is_put_off = True
            self._environment.sockets.put_off(self._go_on)

    def _go_on(self) -> None:
        self._is_put_off = False
        self._pump()

    def abort(self) -> None:
        """Reset both connections."""
        for sock in (self._client, self._upstream):
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._close()

    def count_bytes(self) -> None:
        """Count what was carried since this was asked last."""
        if self._flows is not None:
            up, down = self._flows
            counters = self.route.counters
            counters.received_bytes += up.carried
            counters.sent_bytes += down.carried
            up.carried = down.carried = 0

    def _close(self) -> None:
        client, self._client = self._client, None
        if client is None:
            return
        if self._flows is not None:
            self.count_bytes()
            up, down = self._flows
            self._flows = None
            up.close()
            down.close()
        environment = self._environment
        environment.connecting.discard(self)
        environment.resetting.discard(self)
        self._drop_upstream()
        environment.sockets.forget(client.fileno())
        client.close()
        environment.relays.discard(self)
        environment.slots.give_back(self.client_address)
        self.route.counters.closed += 1

    def _drop_upstream(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            self._environment.sockets.forget(upstream.fileno())
            upstream.close()
        server, self._server = self._server, None
        if server is not None:
            server.under_way -= 1
