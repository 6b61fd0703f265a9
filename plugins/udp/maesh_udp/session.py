"""One client's session with one server: forwards datagrams both ways, over a socket that is connected to the server.

The socket is connected, so the kernel drops datagrams from other peers and reports ICMP errors. A session is detached
when its server is removed or its entrypoint closes: the client's next datagram starts another session, but answers are
still forwarded.

Until its server has answered, a session keeps copies of the client's datagrams, within limits. If an ICMP error reports
that the server is unreachable, the copies go to another server. The session keeps copies again when its server has
failed another session.

Calls its listener and its handler only through the Protocols below. session_lifetime.py decides how long an idle
session lives (setting `session-timeout`).
"""

import errno
import select
import socket
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, Protocol, final

from maesh_core.plugin import (
    UDP,
    Node,
    SocketWatcher,
    StreamRoute,
    StreamServer,
    Ticks,
    TrafficRecord,
    build_record,
    cut_port_key,
)
from maesh_udp.answers import AnsweringListener, Answers
from maesh_udp.batches import BATCH
from maesh_udp.counters import Counters

DATAGRAM_SOCKET = int(socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
ANSWERS_IN_A_TURN: Final = 16
"""Answers that a session receives with one call. Single calls cannot keep up with requests that arrive in batches, and
answers are lost: under overload, half as many were answered as by nginx, and with this limit half as many again."""
SINGLES_LIMIT: Final = 4
TRY_MANY: Final = 8
"""After SINGLES_LIMIT calls that received one answer each, only every eighth call asks for several: a call for one
takes half the time. For a session with several outstanding answers, one call for all of them costs two thirds."""
ERROR_S = 4.0
"""How long to wait for an ICMP error: a router tries to resolve an address three times, for a second each (RFC 4861
section 7.2.2), before it reports that the address is unreachable."""
KEPT_DATAGRAMS = 16
"""Copies that a session keeps. A server that got more datagrams without an answer probably never answers."""
KEPT_BYTES = 1 << 20
"""Bytes of the copies of all sessions of a worker, so that a flood of new clients uses no more memory."""
_LOST_ALONE = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.EMSGSIZE, errno.EPERM})
"""Errors that concern one datagram and not the server."""
UNREACHABLE: Final = "the server is unreachable"
_NEVER = float("inf")


class SessionListener(AnsweringListener, Protocol):
    """The part of a listener that its sessions use."""

    __slots__ = ()

    entrypoint: int

    def add(self, session: "Session") -> None:
        """Forward the client's datagrams to this session from now on."""

    def release(self, session: "Session") -> None:
        """Stop forwarding to this session; the client may have a newer one."""

    def forget(self, session: "Session") -> None:
        """Note that a session has ended."""

    def send_again(self, session: "Session", datagrams: Sequence[bytes]) -> None:
        """Send datagrams that a session's server cannot have received to another server, in the same order."""


class SessionHandler(Protocol):
    """The part of the handler that sessions use."""

    __slots__ = ("kept_bytes",)

    node: Node
    clock: Ticks
    sockets: SocketWatcher
    answers: Answers
    kept_bytes: int
    """Bytes of the datagrams that sessions keep as copies."""

    def note_failure(self, server: StreamServer) -> None:
        """Set a server aside; its sessions keep copies of datagrams until it answers."""

    def forget(self, session: "Session") -> None:
        """Note that a session has ended."""


@final
class Session:
    """Implements `interfaces.Connection`. `mark` identifies the client, see batches.py."""

    __slots__ = (
        "_answer_mark",
        "_counted_received",
        "_counted_sent",
        "_descriptor",
        "_handler",
        "_kept",
        "_listener",
        "_receive_into",
        "_singles",
        "_socket",
        "_started_at",
        "active_at",
        "allowed_servers",
        "detached_at",
        "detached_for",
        "has_answered",
        "kept_until",
        "mark",
        "received_bytes",
        "route",
        "seen_at",
        "send",
        "sent_bytes",
        "stream_server",
        "tried",
        "would_deny",
    )

    exchange = None
    """Always None: no request belongs to a session."""

    send: Callable[[Any], int]

    def __init__(
        self, handler: SessionHandler, listener: SessionListener, route: StreamRoute[Counters], mark: bytes
    ) -> None:
        self._handler, self._listener = handler, listener
        self._socket: socket.SocketType | None = None
        self._kept: list[bytes] | None = None
        self.kept_until = _NEVER
        """The time after which the copies are no longer needed, by the clock."""
        self.has_answered = False
        self._singles = 1
        """Consecutive calls that received one answer; negative after a call that received several. See TRY_MANY."""
        self.route, self.mark = route, mark
        self._answer_mark = listener.layout.build_answer_mark(mark)
        self.stream_server: StreamServer | None = None
        self.detached_at: float | None = None
        self.detached_for = ""
        """Why it was detached."""
        self.received_bytes = self.sent_bytes = 0
        """Bytes of datagrams that were sent to the server, and of its answers."""
        self._counted_received = self._counted_sent = 0
        self.allowed_servers: Collection[tuple[str, int]] | None = None
        self.would_deny = ""
        self.tried: tuple[StreamServer, ...] = ()
        """Unreachable servers to which the client's datagrams were sent before this one."""
        self.active_at = self.seen_at = handler.clock.now
        """The time of the last datagram, and its value at the last search for the oldest session."""

    def __repr__(self) -> str:
        state = "" if self.detached_at is None else " detached"
        return f"<Session {self.client_address} to {self.stream_server!r}{state}>"

    @property
    def client_address(self) -> str:
        """The client's IP address."""
        return self._listener.layout.read_address(self.mark)

    @property
    def entrypoint(self) -> int:
        """The port to which the client sends."""
        return self._listener.entrypoint

    @property
    def server(self) -> tuple[str, int] | None:
        """The server's address and port, once there is one."""
        return self.stream_server.socket_address if self.stream_server is not None else None

    @property
    def service(self) -> str:
        """The key of the service."""
        return self.route.service

    def build_twin(self) -> "Session":
        """Build a session of the same client that is allowed to reach the same servers."""
        twin = Session(self._handler, self._listener, self.route, self.mark)
        twin.allowed_servers, twin.would_deny = self.allowed_servers, self.would_deny
        return twin

    def connect(self, server: StreamServer) -> None:
        """Start with a server; raises OSError."""
        sock = socket.SocketType(server.family, DATAGRAM_SOCKET, 0)
        try:
            sock.connect(server.socket_address)
            self._handler.sockets.watch(sock.fileno(), self._on_event, select.EPOLLIN)
        except OSError:
            sock.close()
            raise
        except OverflowError as error:  # the port number is out of range
            sock.close()
            raise OSError(errno.EINVAL, "no such port") from error
        self._socket, self.send = sock, self._send_and_keep
        self._descriptor, self._receive_into = sock.fileno(), sock.recv_into
        self._kept = []
        self._started_at = time.time()
        self.stream_server = server
        server.under_way += 1
        self._listener.add(self)

    def _send_and_keep(self, data: Any) -> int:
        """Send a datagram to a server that has not answered yet."""
        sock, kept, handler = self._socket, self._kept, self._handler
        assert sock is not None  # noqa: S101 - a session that has ended is asked to send nothing
        size = sock.send(data)
        if kept is not None:
            if len(kept) < KEPT_DATAGRAMS and handler.kept_bytes + size <= KEPT_BYTES:
                kept.append(bytes(data))
                self.kept_until = handler.clock.now + ERROR_S
                handler.kept_bytes += size
            else:
                self.stop_keeping()
        return size

    def keep(self) -> None:
        """Keep copies again until the server answers, because it failed another session."""
        if self._kept is None and self._socket is not None:
            self._kept, self.has_answered, self.send = [], False, self._send_and_keep

    def stop_keeping(self) -> list[bytes]:
        """Stop keeping copies; returns those that were kept."""
        kept, self._kept, self.kept_until = self._kept or [], None, _NEVER
        self._handler.kept_bytes -= sum(map(len, kept))
        if self._socket is not None:
            self.send = self._socket.send
        return kept

    def note_send_error(self, error: OSError) -> bool:
        """Count a datagram that was not sent, or end the session if the error concerns it; True where it has ended."""
        if error.errno in _LOST_ALONE:
            self.route.counters.dropped += 1
            return False
        self.fail()
        return True

    def _on_event(self, events: int) -> None:
        """Receive one or several answers into the outbox; the poller reports the remaining ones."""
        answers, listener = self._handler.answers, self._listener
        outbox = answers.outbox
        if answers.listener is not listener or outbox.count == BATCH:
            answers.turn_to(listener)
        try:
            if self._singles > 0 and self._singles % TRY_MANY:
                count = outbox.receive_one(self._receive_into, self._answer_mark)
            else:
                count = outbox.receive(self._descriptor, self._answer_mark, limit=ANSWERS_IN_A_TURN)
        except OSError:
            self.fail()
            return
        if not count:
            return
        sizes, end = outbox.sizes, outbox.count
        if count == 1:
            self._singles += 1
            self.sent_bytes += sizes[end - 1]
        else:
            self._singles = -SINGLES_LIMIT
            self.sent_bytes += sum(sizes[end - count : end])
        self.active_at = self._handler.clock.now
        if not self.has_answered and self.stream_server is not None:
            self.has_answered = True
            self.stop_keeping()
            self.stream_server.note_success()

    def count_bytes(self) -> str:
        """Count the bytes since the last call, by server, and if the service has encryption, by path; return the path.

        Datagrams that are kept as copies do not count yet: they may go to another server, and counters never decrease.
        """
        server = self.stream_server
        if server is None:
            return ""
        received, sent = self.received_bytes, self.sent_bytes
        if self._kept:
            received -= sum(map(len, self._kept))
        fresh_received, fresh_sent = received - self._counted_received, sent - self._counted_sent
        if fresh_received or fresh_sent:  # at a scrape, most sessions are idle
            self._counted_received, self._counted_sent = received, sent
            self.route.count_bytes(server, received=fresh_received, sent=fresh_sent)
        if not server.mode:
            return ""
        size = fresh_received + fresh_sent
        return self._handler.node.count_uncarried(self.client_address, self.service, server, size_bytes=size)

    def _build_record(self, reason: str) -> TrafficRecord:
        """Build the record of this session."""
        return build_record(
            UDP,
            started_at=self._started_at,
            duration_s=max(0.0, time.time() - self._started_at),
            client=self.client_address,
            entrypoint=self.entrypoint,
            protocol="UDP",
            service=cut_port_key(self.service),
            destination=self.route.find_destination(self.stream_server),
            server=self.stream_server.label if self.stream_server is not None else "",
            attempts=1,
            reason=reason,
            received_bytes=self.received_bytes,
            sent_bytes=self.sent_bytes,
            server_path=self.count_bytes(),
            server_node=self.stream_server.node if self.stream_server is not None else "",
            would_deny=self.would_deny,
        )

    def detach(self, reason: str) -> None:
        """Accept no more datagrams from the client; outstanding answers are still forwarded for a moment."""
        if self.detached_at is None:
            self.detached_at = self._handler.clock.now
            self.detached_for = reason
            self._listener.release(self)

    def fail(self) -> None:
        """End because of an ICMP error. Datagrams that the server cannot have received go to another server."""
        self.route.counters.failed += 1
        if self.stream_server is not None:
            self._handler.note_failure(self.stream_server)
            self.route.count_failure(self.stream_server)
            self.tried += (self.stream_server,)
        kept = self.stop_keeping()
        self.received_bytes -= sum(map(len, kept))
        self.end(UNREACHABLE)
        self._listener.send_again(self, kept)

    def end(self, reason: str = "") -> None:
        """End; later answers of the server are dropped. `reason` is for those who observe traffic."""
        if self._socket is None:
            return
        self.stop_keeping()
        sock, self._socket = self._socket, None
        self._handler.sockets.close_socket(sock)
        if self.stream_server is not None:
            self.stream_server.under_way -= 1
        self.route.counters.closed += 1
        self.count_bytes()
        if self._handler.node.is_observed:
            self._handler.node.observe(self._build_record(reason))
        self._handler.forget(self)
        self._listener.forget(self)
