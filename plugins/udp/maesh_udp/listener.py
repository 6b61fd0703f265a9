"""An open entrypoint: one socket to which all its clients send, and from which all answers are sent.

On a socket that is bound to all addresses, a client is also identified by the address to which it sent, and answers are
sent from this address. The kernel would select one by the route back, but a connected client accepts answers from no
other address (RFC 1122 section 4.1.3.5).
"""

import contextlib
import select
import socket
from typing import TYPE_CHECKING

from maesh_udp.batches import Layout, Outbox
from maesh_udp.session import Session

if TYPE_CHECKING:
    from maesh_udp.proxy import UdpHandler

BUFFER_BYTES = 4 << 20
"""Socket buffer for datagrams that wait while the worker is busy; `net.core.rmem_max` may limit it further."""


class UdpListener:
    """Implements `hookspecs.Listener`. `sessions` are the sessions that accept datagrams, by the client's mark."""

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

    def __init__(self, handler: "UdpHandler", sock: socket.socket, entrypoint: int) -> None:
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
                    session.send(data)
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

    def answer(self, outbox: Outbox) -> tuple[int, int]:
        """Send answers to clients; returns how many were sent, and how many bytes."""
        return outbox.send(self._descriptor)

    def close(self) -> None:
        """Accept no more datagrams; the socket stays open until the last answer is sent."""
        if self._is_open:
            self._is_open = False
            self._handler.sockets.forget(self._descriptor)
            for session in list(self.sessions.values()):
                session.detach()
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

    def _close_if_left(self) -> None:
        if not self._is_open and not self._alive:
            self._handler.leave(self)
            self._sock.close()
