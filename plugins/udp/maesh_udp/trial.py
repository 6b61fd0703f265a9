"""The trial of a server that is set aside: a copy of a datagram, while the datagram itself goes to another server.

Therefore no client loses a datagram if the trial fails. The server gets one datagram that another server has too; UDP
permits duplicates (RFC 768 guarantees no protection from them). The trial drops the server's answer. It calls the
handler only through the Protocol below.
"""

import select
import socket
from typing import Protocol, final

from maesh_core.plugin import SocketWatcher, StreamServer, Ticks
from maesh_udp.session import DATAGRAM_SOCKET, ERROR_S, Session

_ANSWER_BYTES = 1
"""Bytes to read of an answer, because only its arrival counts."""


class TrialHandler(Protocol):
    """The part of the handler that trials use."""

    __slots__ = ()

    clock: Ticks
    sockets: SocketWatcher

    def forget_trial(self, server: StreamServer) -> None:
        """Note that the trial of a server has ended."""


@final
class Trial:
    """One copy that was sent. `session` is the session that got the datagram itself."""

    __slots__ = ("_began_at", "_handler", "_session", "_socket", "server")

    def __init__(self, handler: TrialHandler, server: StreamServer, session: Session) -> None:
        self._handler, self.server, self._session = handler, server, session
        self._began_at = handler.clock.now
        self._socket: socket.SocketType | None = None

    def __repr__(self) -> str:
        return f"<Trial of {self.server!r}>"

    def begin(self, data: memoryview | bytes) -> None:
        """Send the copy. If no socket is available, the server stays set aside until the next trial."""
        try:
            self._socket = sock = socket.SocketType(self.server.family, DATAGRAM_SOCKET, 0)
            sock.connect(self.server.socket_address)
            self._handler.sockets.watch(sock.fileno(), self._on_event, select.EPOLLIN)
            sock.send(data)
        except OSError:
            self.end()

    def on_time(self, now: float) -> None:
        """Decide a trial without an answer, after the time in which an ICMP error can arrive.

        It failed if the other server answered the same datagram. If that server was silent too, the service only
        receives, and the absence of an error is a success.
        """
        if now - self._began_at < ERROR_S:
            return
        if self._session.has_answered:
            self.server.note_failure()
        else:
            self.server.note_success()
        self.end()

    def _on_event(self, events: int) -> None:
        if self._socket is None:
            return
        try:
            self._socket.recv(_ANSWER_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.server.note_failure()
        else:
            self.server.note_success()
        self.end()

    def end(self) -> None:
        """End the trial with any result."""
        sock, self._socket = self._socket, None
        if sock is not None:
            self._handler.sockets.close_socket(sock)
        self._handler.forget_trial(self.server)
