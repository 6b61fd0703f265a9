"""An open entrypoint: one socket to which all its clients send, and from which all answers are sent.

On a socket that is bound to all addresses, a client is also identified by the address to which it sent, and answers are
sent from this address. The kernel would select one by the route back, but a connected client accepts answers from no
other address (RFC 1122 section 4.1.3.5).

Calls the handler only through the Protocol below.
"""

import contextlib
import select
import socket
from collections.abc import Sequence
from typing import Protocol, final

from maesh_core.plugin import ENTRYPOINT_CLOSED, SocketWatcher, StreamServer, Ticks
from maesh_udp.answers import Answers
from maesh_udp.batches import Inbox, Layout, Outbox
from maesh_udp.session import Session, SessionListener

BUFFER_BYTES = 4 << 20
"""Socket buffer for datagrams that wait while the worker is busy; `net.core.rmem_max` may limit it further."""


class ListenerHandler(Protocol):
    """The part of the handler that listeners use."""

    __slots__ = ()

    clock: Ticks
    sockets: SocketWatcher
    inbox: Inbox
    answers: Answers

    def begin(
        self,
        listener: "UdpListener",
        mark: bytes,
        data: memoryview | bytes,
        *,
        tried: Sequence[StreamServer] = (),
    ) -> bool:
        """Start a session with a client's datagram; False if the datagram is lost."""

    def carry(
        self,
        listener: "UdpListener",
        mark: bytes,
        data: memoryview | bytes,
        *,
        tried: Sequence[StreamServer] = (),
    ) -> bool:
        """Send a datagram in its client's session, or start one with it; False if the datagram is lost."""

    def count_received(self, entrypoint: int, count: int, size: int) -> None:
        """Count datagrams that were forwarded to servers, and their bytes."""

    def count_sent(self, entrypoint: int, count: int, size: int, *, dropped: int) -> None:
        """Count answers that were sent to clients, their bytes, and those that could not be sent."""


@final
class UdpListener(SessionListener):
    """Implements `protocols.Listener`. `sessions` are the sessions that accept datagrams, by the client's mark."""

    __slots__ = (
        "_alive",
        "_descriptor",
        "_handler",
        "_is_open",
        "_sock",
        "entrypoint",
        "layout",
        "sessions",
    )

    def __init__(self, handler: ListenerHandler, sock: socket.socket, entrypoint: int) -> None:
        self._handler, self._sock, self.entrypoint = handler, sock, entrypoint
        self._descriptor = sock.fileno()
        self._is_open = True
        self._alive = 0
        self.sessions: dict[bytes, Session] = {}
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        self.layout = Layout(sock)
        handler.sockets.watch(self._descriptor, self._on_event, select.EPOLLIN)

    def __repr__(self) -> str:
        return f"<UdpListener {self.entrypoint} sessions={len(self.sessions)} open={self._is_open}>"

    def _on_event(self, events: int) -> None:
        """Receive a batch of datagrams from clients; the poller reports the remaining ones again."""
        handler, sessions = self._handler, self.sessions
        inbox, now = handler.inbox, handler.clock.now
        slots, sizes = inbox.slots, inbox.sizes
        count = inbox.receive(self._descriptor, self.layout)
        marks = inbox.marks
        carried = carried_bytes = 0
        for index in range(count):
            mark, size = marks[index].tobytes(), sizes[index]
            data = slots[index][:size]
            session = sessions.get(mark)
            if session is not None:
                try:
                    session.received_bytes += session.send(data)
                    session.active_at = now
                except OSError as error:
                    if not session.note_send_error(error) or not handler.carry(self, mark, data):
                        continue
            elif not handler.begin(self, mark, data):
                continue
            carried += 1
            carried_bytes += size
        if carried:
            handler.count_received(self.entrypoint, carried, carried_bytes)

    @property
    def is_open(self) -> bool:
        """Whether clients may send; afterwards only answers are forwarded."""
        return self._is_open

    def send_answers(self, outbox: Outbox) -> None:
        """Send the answers in the outbox to clients, and count them."""
        count = outbox.count
        sent, sent_bytes = outbox.send(self._descriptor)
        self._handler.count_sent(self.entrypoint, sent, sent_bytes, dropped=count - sent)

    def close(self) -> None:
        """Accept no more datagrams; the socket stays open until the last answer is sent."""
        if self._is_open:
            self._is_open = False
            self._handler.sockets.forget(self._descriptor)
            for session in list(self.sessions.values()):
                session.detach(ENTRYPOINT_CLOSED)
            self._close_if_left()

    def add(self, session: Session) -> None:
        """Forward the client's datagrams to this session from now on."""
        self._alive += 1
        self.sessions[session.mark] = session

    def forget(self, session: Session) -> None:
        """Note that a session has ended."""
        self._alive -= 1
        self.release(session)
        self._close_if_left()

    def release(self, session: Session) -> None:
        """Stop forwarding to this session; the client may have a newer one."""
        if self.sessions.get(session.mark) is session:
            del self.sessions[session.mark]

    def send_again(self, session: Session, datagrams: Sequence[bytes]) -> None:
        """Send datagrams that a session's server cannot have received to a server in full use, in the same order."""
        for data in datagrams if self._is_open else ():
            self._handler.carry(self, session.mark, data, tried=session.tried)

    def _close_if_left(self) -> None:
        if not self._is_open and not self._alive:
            self._handler.answers.send_last(self)
            self._sock.close()
