"""One client's session with one server: datagrams both ways, over a socket that knows no other peer than the server.

The kernel so hands over nothing that anybody else sent, and tells of ICMP errors. A session whose server is leaving, or
whose entrypoint is closed, is detached: what the client sends next is no longer its, but answers still pass.
"""

import errno
import select
import socket
from typing import TYPE_CHECKING

from maesh_core.plugin import StreamRoute, StreamServer

if TYPE_CHECKING:
    from maesh_udp.listener import ClientKey, UdpListener
    from maesh_udp.proxy import UdpHandler

DATAGRAM_BYTES = 65536
"""More than any datagram has (RFC 768, RFC 8200 without jumbograms)."""
REPLIES_IN_A_TURN = 16
_DATAGRAM = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
_LOST_ALONE = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.EMSGSIZE, errno.EPERM})
"""Errors that say something of one datagram, not of the server."""


class Session:
    """Implements `interfaces.Connection`."""

    __slots__ = (
        "_clock",
        "_counters",
        "_handler",
        "_has_answered",
        "_listener",
        "_receive",
        "_send",
        "_socket",
        "active_at",
        "is_detached",
        "key",
        "route",
        "seen_at",
        "server",
    )

    exchange = None
    """No request has made it."""

    def __init__(self, handler: "UdpHandler", listener: "UdpListener", route: StreamRoute, key: "ClientKey") -> None:
        self._handler, self._listener = handler, listener
        self._clock, self._counters = handler.clock, route.counters
        self._socket: socket.socket | None = None
        self._has_answered = False
        self.route, self.key = route, key
        self.server: StreamServer | None = None
        self.is_detached = False
        self.active_at = self.seen_at = handler.clock.now
        """When a datagram passed last, and what that was when somebody last looked for the oldest session."""

    def __repr__(self) -> str:
        return f"<Session {self.client_address} to {self.server!r}{' detached' if self.is_detached else ''}>"

    @property
    def client_address(self) -> str:
        """The client's IP address, without the zone of a link-local one."""
        return str(self.key[0][0]).partition("%")[0]

    @property
    def entrypoint(self) -> int:
        """The port that the client sends to."""
        return self._listener.entrypoint

    @property
    def service(self) -> str:
        """The key of the service."""
        return self.route.service

    def connect(self, server: StreamServer) -> None:
        """Begin with a server; raises OSError."""
        sock = socket.socket(server.family, _DATAGRAM)
        try:
            sock.connect(server.socket_address)
            self._handler.sockets.watch(sock.fileno(), self._on_event, select.EPOLLIN)
        except OSError:
            sock.close()
            raise
        self._socket, self._send, self._receive = sock, sock.send, sock.recv
        self.server = server
        server.under_way += 1
        self._listener.add(self)

    def forward(self, data: bytes) -> bool:
        """Send a datagram to the server; False when the session ended instead, and another is to have it."""
        try:
            self._send(data)
        except OSError as error:
            if error.errno not in _LOST_ALONE:
                self.fail()
                return False
            self._counters.dropped += 1
            return True
        self.active_at = self._clock.now
        counters = self._counters
        counters.received += 1
        counters.received_bytes += len(data)
        return True

    def _on_event(self, events: int) -> None:
        """Send the client what the server answered, some datagrams at a time."""
        counters, listener, key = self._counters, self._listener, self.key
        for _ in range(REPLIES_IN_A_TURN):
            try:
                data = self._receive(DATAGRAM_BYTES)
            except BlockingIOError:
                return
            except OSError:
                self.fail()
                return
            if not self._has_answered and self.server is not None:
                self._has_answered = True
                self.server.note_success()
            self.active_at = self._clock.now
            try:
                listener.answer(data, key)
            except OSError:  # the client's, or our own want of room: this datagram is lost, as any may be
                counters.dropped += 1
            else:
                counters.sent += 1
                counters.sent_bytes += len(data)

    def detach(self) -> None:
        """Take nothing more from the client."""
        self.is_detached = True
        self._listener.sessions.pop(self.key, None)

    def fail(self) -> None:
        """End on an ICMP error: nobody is there."""
        self._counters.failed += 1
        if self.server is not None:
            self.server.note_failure()
        self.end()

    def end(self) -> None:
        """End; what the server may still send reaches nobody."""
        sock, self._socket = self._socket, None
        if sock is None:
            return
        self._handler.sockets.forget(sock.fileno())
        sock.close()
        if self.server is not None:
            self.server.under_way -= 1
        self._counters.closed += 1
        self._handler.forget(self)
        self._listener.forget(self)
