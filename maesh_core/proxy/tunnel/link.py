"""Connects one tunnel's frames (connection.py) with its TLS socket: the handshake, reads, writes, and the end.

Watches the socket edge-triggered. One turn reads at most READ_BYTES, and nothing while too much is unsent. The end of
TCP without close_notify, and any record that was changed, reset every stream: an attacker can cut a connection, but not
make a cut message look complete.
"""

import logging
import math
import select
import socket
import ssl
from abc import abstractmethod
from typing import Final

from maesh_core.proxy.network.edges import EDGES, GONE
from maesh_core.proxy.tunnel.connection import COPIED_READ_BYTES, TunnelConnection
from maesh_core.proxy.tunnel.environment import TunnelEnvironment
from maesh_core.proxy.tunnel.identity import PeerRefusedError
from maesh_core.proxy.tunnel.limits import BARREN_BYTES, CLOSE_LIMIT_S, HANDSHAKE_LIMIT_S
from maesh_core.proxy.tunnel.output import Channel
from maesh_core.proxy.tunnel.pacer import HandshakePacer
from maesh_core.proxy.tunnel.tls_socket import WOULD_BLOCK, TlsSocket

_READABLE: Final = select.EPOLLIN | GONE

_logger = logging.getLogger(__name__)


class TunnelLink(Channel):
    """One TLS connection between nodes. `role` is a label of the metrics."""

    __slots__ = (
        "_barren_bytes",
        "_close_deadline",
        "_handshake_deadline",
        "_is_gone",
        "_is_put_off",
        "_is_shaking_queued",
        "_is_stalled",
        "_pacer",
        "_sees_end",
        "connection",
        "ends_at",
        "environment",
        "is_closed",
        "is_established",
        "role",
        "tls",
    )

    def __init__(self, environment: TunnelEnvironment, pacer: HandshakePacer, role: str) -> None:
        self.environment = environment
        self.role = role
        self._pacer = pacer
        self.tls: TlsSocket | None = None
        self.connection: TunnelConnection | None = None
        self.is_established = False
        self.is_closed = False
        self._handshake_deadline = environment.clock.now + HANDSHAKE_LIMIT_S
        self._close_deadline = 0.0
        self.ends_at = math.inf
        """When the connection ends, also with open streams."""
        self._barren_bytes = 0
        self._is_gone = self._is_put_off = self._is_shaking_queued = self._is_stalled = False
        self._sees_end = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.tls!r} {self.connection!r}>"

    # --- implemented by subclasses

    @abstractmethod
    def on_secured(self, tls: TlsSocket) -> TunnelConnection:
        """Check the peer after the handshake, and return its connection, which has begun. Raises PeerRefusedError."""

    @abstractmethod
    def on_established(self) -> None:
        """Count the connection as open."""

    @abstractmethod
    def on_closed(self, reason: str) -> None:
        """Forget the connection; `reason` is why it failed, or empty."""

    # --- the handshake

    def begin_tls(
        self, sock: socket.SocketType, context: ssl.SSLContext, *, is_server: bool, session: ssl.SSLSession | None
    ) -> None:
        """Start the handshake on a connected socket, whose events come to `on_event` from now on."""
        self.tls = TlsSocket(self.environment, sock, context, is_server=is_server, session=session)
        if not is_server:
            self._queue_shaking()

    def on_event(self, events: int) -> None:
        """Handle events of the socket."""
        tls = self.tls
        if tls is None or self.is_closed:
            return
        self.environment.flusher.begin_event()
        if events & GONE:
            self._sees_end = True
        if self._is_gone:
            self._finish_closing(tls)
        elif self.connection is None:
            if events & _READABLE or tls.unsent_bytes:
                self._queue_shaking()
        else:
            if tls.is_blocked and events & (select.EPOLLOUT | GONE):
                self._on_writable(tls, self.connection)
            if events & _READABLE:
                self._read()

    def _queue_shaking(self) -> None:
        if not self._is_shaking_queued:
            self._is_shaking_queued = True
            self._pacer.add(self._shake)

    def _shake(self) -> None:
        """Continue the handshake with what has arrived."""
        self._is_shaking_queued = False
        tls = self.tls
        if tls is None or self._has_ended():
            return
        try:
            tls.flush()
            count = tls.feed()
            if tls.shake():
                self.environment.counters.count_handshake(self.role, is_resumed=bool(tls.object.session_reused))
                self.connection = self.on_secured(tls)
            elif count == 0:
                raise ConnectionResetError
        except PeerRefusedError as refusal:
            self.lose(str(refusal))
        except ssl.SSLCertVerificationError:
            self.lose("certificate")
        except ssl.SSLError as failure:
            self.lose("handshake" if failure.reason != "NO_APPLICATION_PROTOCOL" else "protocol")
        except OSError:
            self.lose("reset")
        else:
            if self.connection is not None:
                self._read_decrypted(self.connection, tls)  # what came with the end of the handshake

    def check(self, now: float) -> None:
        """End waits that have lasted too long; called at each tick."""
        if self._is_gone:
            if now >= self._close_deadline:
                self._drop("")
        elif not self.is_established and now >= self._handshake_deadline:
            self.lose("timeout")
        elif now >= self.ends_at:
            self.lose("distrusted")
        elif self.connection is not None:
            self.connection.check(now)

    def note_established(self) -> None:
        """Record that both sides have accepted each other."""
        if not self.is_established:
            self.is_established = True
            self.environment.counters.tunnels[self.role] += 1
            self.on_established()

    # --- reading

    def _has_ended(self) -> bool:
        """Whether nothing more is read; a method, since most calls may change it."""
        return self._is_gone or self.is_closed

    def read_more(self) -> None:
        """Process what was kept, and read on, in a later turn of the loop."""
        if not self._is_put_off:
            self._is_put_off = True
            self.environment.sockets.put_off(self._read_later)

    def _read_later(self) -> None:
        self._is_put_off = False
        self._read()
        self.environment.flusher.run()

    def _read(self) -> None:
        """Read once from the socket, unless frames wait from the last read, or too much is unsent."""
        connection, tls = self.connection, self.tls
        if connection is None or tls is None or self._has_ended():
            return
        if connection.has_full_output():
            connection.flush()
            if connection.has_full_output():  # an event follows when the socket accepts bytes again
                self._is_stalled = True
                return
        if connection.has_kept_frames():
            self._process(connection, connection.begin_read())
            if connection.has_kept_frames() or self._has_ended():
                self._go_on(connection, tls)
                return
        try:
            count = tls.feed()
        except OSError:
            self.lose("reset")
            return
        if count > 0:
            self._barren_bytes += count
        if 0 < count <= COPIED_READ_BYTES and not tls.has_more:
            self._read_small(connection, tls)
        else:
            self._read_decrypted(connection, tls)
        if self._sees_end and count not in (0, WOULD_BLOCK):
            self.read_more()

    def _read_decrypted(self, connection: TunnelConnection, tls: TlsSocket) -> None:
        """Decrypt and process everything that was read."""
        failure = ""
        while not failure:
            start = connection.begin_read()
            end, failure = self._decrypt(tls, start)
            if end > start:
                self._barren_bytes = 0
                connection.received_at = self.environment.clock.now
                self._process(connection, end)
            if self._has_ended() or end == start or not tls.has_more or connection.has_kept_frames():
                break
        self._end_read(connection, tls, failure)

    def _read_small(self, connection: TunnelConnection, tls: TlsSocket) -> None:
        """Decrypt and process a small read."""
        data, failure = self._decrypt_small(tls)
        if data:
            self._barren_bytes = 0
            connection.received_at = self.environment.clock.now
            connection.process_bytes(data)
            self._note_settings(connection)
        self._end_read(connection, tls, failure)

    def _end_read(self, connection: TunnelConnection, tls: TlsSocket, failure: str) -> None:
        if failure:
            self.lose(failure if self.is_established or failure != "tls" else "rejected")
        elif self._barren_bytes > BARREN_BYTES:
            self.lose("barren")
        elif tls.has_ended and not (self._has_ended() or connection.has_kept_frames()):
            self.lose("")
        else:
            self._go_on(connection, tls)

    def _decrypt(self, tls: TlsSocket, start: int) -> tuple[int, str]:
        """Decrypt into the environment's `plain`; return where it ends, and why decrypting has failed."""
        try:
            end = tls.decrypt(start)
            tls.flush_answers()
        except ssl.SSLEOFError:
            return tls.decrypted_to, "truncated"
        except ssl.SSLError:
            return tls.decrypted_to, "tls"
        except OSError:
            return tls.decrypted_to, "reset"
        return end, ""

    def _decrypt_small(self, tls: TlsSocket) -> tuple[bytes, str]:
        """Decrypt a small read; return its bytes, and why decrypting has failed."""
        data = b""
        try:
            data = tls.decrypt_small()
            tls.flush_answers()
        except ssl.SSLEOFError:
            return tls.decrypted, "truncated"
        except ssl.SSLError:
            return tls.decrypted, "tls"
        except OSError:
            return data, "reset"
        return data, ""

    def _process(self, connection: TunnelConnection, end: int) -> None:
        connection.process(end)
        self._note_settings(connection)

    def _note_settings(self, connection: TunnelConnection) -> None:
        if connection.has_settings and not self.is_established and not connection.is_ended:
            self.note_established()

    def _go_on(self, connection: TunnelConnection, tls: TlsSocket) -> None:
        if not self._has_ended() and (tls.was_full or connection.has_kept_frames()):
            self.read_more()

    def _on_writable(self, tls: TlsSocket, connection: TunnelConnection) -> None:
        connection.on_writable()
        if self._is_stalled and not connection.has_full_output():
            self._is_stalled = False
            self.read_more()

    # --- writing (see Channel)

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the socket has not accepted yet."""
        tls = self.tls
        return tls.unsent_bytes if tls is not None else 0

    def write(self, data: bytes | memoryview) -> None:
        """Encrypt bytes. A failure is reported in a later turn of the loop."""
        tls = self.tls
        if tls is not None:
            try:
                tls.write(data)
            except ssl.SSLError:
                self._note_broken(tls)

    def flush(self) -> None:
        """Send as much as the socket accepts. A failure is reported in a later turn of the loop."""
        tls = self.tls
        if tls is None or self.is_closed:
            return
        try:
            tls.flush()
        except OSError:
            self._note_broken(tls)

    def _note_broken(self, tls: TlsSocket) -> None:
        """Send nothing more; what has arrived before can still be read, and shows how the connection has ended."""
        tls.discard_unsent()
        self._sees_end = True
        self.read_more()

    # --- ends

    def lose(self, reason: str) -> None:
        """End because of a failure, or because the peer has ended (an empty reason)."""
        if self.is_closed:
            return
        self._is_gone = True
        connection = self.connection
        if connection is not None:
            connection.end(reason or "the peer has ended the connection")
        self._drop(reason)

    def close(self) -> None:
        """Send the rest, say that this is the end, and close."""
        tls = self.tls
        if tls is None or self._has_ended():
            return
        self._is_gone = True
        self._close_deadline = self.environment.clock.now + CLOSE_LIMIT_S
        self._finish_closing(tls, is_first=True)

    def abort(self) -> None:
        """Close at once."""
        self.lose("silence" if self.is_established else "aborted")

    def _finish_closing(self, tls: TlsSocket, *, is_first: bool = False) -> None:
        try:
            if is_first:
                tls.say_goodbye()
            else:
                tls.flush()
        except OSError:
            self._drop("")
            return
        if not tls.unsent_bytes or self._sees_end:
            self._drop("")

    def _drop(self, reason: str) -> None:
        """Close the socket, and report the end."""
        if self.is_closed:
            return
        self.is_closed = True
        tls, self.tls = self.tls, None
        if tls is not None:
            self.environment.sockets.close_socket(tls.sock)
        if self.is_established:
            self.environment.counters.tunnels[self.role] -= 1
        connection = self.connection
        if reason or (connection is not None and connection.has_failed):
            self.environment.counters.count_failure(self.role, reason or "frames")
        self.on_closed(reason)

    def watch(self, sock: socket.SocketType) -> None:
        """Watch a socket. Raises OSError."""
        self.environment.sockets.watch(sock.fileno(), self.on_event, EDGES)
