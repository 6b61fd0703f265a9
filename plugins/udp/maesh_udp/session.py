"""One client's session with one server: datagrams both ways, over a socket that knows no other peer than the server.

The kernel so hands over nothing that anybody else sent, and tells of ICMP errors. A session whose server is leaving, or
whose entrypoint is closed, is detached: what the client sends next is no longer its, but answers still pass.
"""

import errno
import select
import socket
from collections.abc import Collection
from typing import TYPE_CHECKING

from maesh_core.plugin import StreamRoute, StreamServer
from maesh_udp.batches import BATCH

if TYPE_CHECKING:
    from maesh_udp.listener import UdpListener
    from maesh_udp.proxy import UdpHandler

_DATAGRAM = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
_LOST_ALONE = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.EMSGSIZE, errno.EPERM})
"""Errors that say something of one datagram, not of the server."""


class Session:
    """Implements `interfaces.Connection`. `mark` tells the client, see batches.py."""

    __slots__ = (
        "_answer_mark",
        "_handler",
        "_has_answered",
        "_listener",
        "_receive_into",
        "_socket",
        "active_at",
        "allowed_servers",
        "detached_at",
        "mark",
        "route",
        "seen_at",
        "send",
        "stream_server",
    )

    exchange = None
    """No request has made it."""

    def __init__(self, handler: "UdpHandler", listener: "UdpListener", route: StreamRoute, mark: bytes) -> None:
        self._handler, self._listener = handler, listener
        self._socket: socket.socket | None = None
        self._has_answered = False
        self.route, self.mark = route, mark
        self._answer_mark = listener.layout.build_answer_mark(mark)
        self.stream_server: StreamServer | None = None
        self.detached_at: float | None = None
        self.allowed_servers: Collection[tuple[str, int]] | None = None
        self.active_at = self.seen_at = handler.clock.now
        """When a datagram passed last, and what that was when somebody last looked for the oldest session."""

    def __repr__(self) -> str:
        state = "" if self.detached_at is None else " detached"
        return f"<Session {self.client_address} to {self.stream_server!r}{state}>"

    @property
    def client_address(self) -> str:
        """The client's IP address."""
        return self._listener.layout.read_address(self.mark)

    @property
    def entrypoint(self) -> int:
        """The port that the client sends to."""
        return self._listener.entrypoint

    @property
    def server(self) -> tuple[str, int] | None:
        """The server's address and port, once there is one."""
        return self.stream_server.socket_address if self.stream_server is not None else None

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
        except OverflowError as error:  # a port that there cannot be
            sock.close()
            raise OSError(errno.EINVAL, "no such port") from error
        self._socket, self.send, self._receive_into = sock, sock.send, sock.recv_into
        self.stream_server = server
        server.under_way += 1
        self._listener.add(self)

    def is_ended_by(self, error: OSError) -> bool:
        """Take note that a datagram was not sent to the server; the session ends unless that datagram was to blame."""
        if error.errno in _LOST_ALONE:
            self.route.counters.dropped += 1
            return False
        self.fail()
        return True

    def _on_event(self, events: int) -> None:
        """Take an answer of the server, or some, to leave together with others; the poller tells of the rest."""
        handler, listener = self._handler, self._listener
        outbox = handler.outbox
        for number in range(listener.answers_in_a_turn):
            if handler.answering is not listener or outbox.count == BATCH:
                handler.turn_to(listener)
            index = outbox.count
            try:
                size = self._receive_into(outbox.slots[index])
            except BlockingIOError:
                if not number:
                    return
                break
            except OSError:
                self.fail()
                return
            outbox.marks[index][:] = self._answer_mark
            outbox.sizes[index] = size
            outbox.count = index + 1
        self.active_at = handler.clock.now
        if not self._has_answered and self.stream_server is not None:
            self._has_answered = True
            self.stream_server.note_success()

    def detach(self) -> None:
        """Take nothing more from the client; the answer to what it sent has a moment left."""
        if self.detached_at is None:
            self.detached_at = self._handler.clock.now
            self._listener.release(self)

    def fail(self) -> None:
        """End on an ICMP error: nobody is there."""
        self.route.counters.failed += 1
        if self.stream_server is not None:
            self.stream_server.note_failure()
        self.end()

    def end(self) -> None:
        """End; what the server may still send reaches nobody."""
        sock, self._socket = self._socket, None
        if sock is None:
            return
        self._handler.sockets.forget(sock.fileno())
        sock.close()
        if self.stream_server is not None:
            self.stream_server.under_way -= 1
        self.route.counters.closed += 1
        self._handler.forget(self)
        self._listener.forget(self)
