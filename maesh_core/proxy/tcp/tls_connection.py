"""TLS to a server, between the connection to it and the relay: a protocol below, and a transport above.

Takes the protocol of the relay and the TLS object of one connection; the transport below may be that of a socket or of
a path between nodes. The relay learns of the connection when the server's certificate was accepted, so nothing is sent
in clear or to another server. Each side can end its direction alone: by close_notify, as a socket does by FIN. An end
without close_notify is a reset, since anyone on the path could have cut the connection.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import Any, Final, final

from maesh_core.plugin_system.transports import OpenFailure, Opening, OutgoingProtocol
from maesh_core.proxy.http.transports import reset

CLOSE_LIMIT_S: Final = 30.0
"""How long a closed connection may still send what was written; a server that reads nothing would keep it forever."""
READ_BYTES: Final = 65536
"""The most that one read decrypts; OpenSSL returns at most one record of 16 KiB."""
UNREAD_ANSWERS_BYTES: Final = 16384
"""Limit of what TLS itself answers, for example to updates of keys, to a server that does not read: about 600 of them.
A server could fill the memory with such answers."""

CERTIFICATE: Final = "certificate"
HANDSHAKE: Final = "handshake"
CLOSED: Final = "closed"
TIMEOUT: Final = "timeout"
FAILURES: Final = (CERTIFICATE, CLOSED, HANDSHAKE, TIMEOUT)
"""Why a handshake failed: the certificate was not accepted, the connection ended, TLS had an error, it took too long.
Values of the label `reason`."""
FAILED: Final = "the TLS handshake with the server failed"

_BAD_GATEWAY: Final = 502


@final
class TlsConnection:
    """One connection. Until the handshake is complete, it is the `Opening` that the relay holds.

    `check` returns why the certificate is not accepted, or an empty text. `note_failure` is called with the reason of a
    failed handshake and a text that explains it, unless the handshake is cancelled.
    """

    __slots__ = (
        "_below",
        "_check",
        "_close_timer",
        "_has_sent_end",
        "_has_server_ended",
        "_incoming",
        "_is_closed",
        "_is_open",
        "_is_write_paused",
        "_note_failure",
        "_object",
        "_opening",
        "_outgoing",
        "_unread_answers",
        "_user",
    )

    def __init__(
        self,
        user: OutgoingProtocol,
        context: ssl.SSLContext,
        server_name: str,
        *,
        check: Callable[[ssl.SSLObject], str],
        note_failure: Callable[[str, str], None],
    ) -> None:
        """Raise ValueError if TLS cannot ask for this name."""
        self._user = user
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)
        self._check = check
        self._note_failure = note_failure
        self._below: Any = None
        self._opening: Opening | None = None
        self._close_timer: asyncio.TimerHandle | None = None
        self._is_open = self._is_closed = False
        self._has_sent_end = self._has_server_ended = self._is_write_paused = False
        self._unread_answers = 0

    def __repr__(self) -> str:
        return f"<TlsConnection open={self._is_open} closed={self._is_closed}>"

    # --- as an Opening

    def hold(self, opening: Opening) -> None:
        """Keep the connection below while it is being opened."""
        self._opening = opening

    @property
    def has_connection(self) -> bool:
        """Whether the connection below is there, or waits only for the server."""
        return self._below is not None or (self._opening is not None and self._opening.has_connection)

    @property
    def is_in_handshake(self) -> bool:
        """Whether the connection below is there, but the server has not proven who it is."""
        return self._below is not None and not self._is_open and not self._is_closed

    def cancel(self) -> None:
        """Stop opening."""
        if self._below is not None:
            self.abort()
        elif not self._is_closed:
            self._is_closed = True
            if self._opening is not None:
                self._opening.cancel()

    # --- called by the connection below

    def connection_made(self, transport: Any) -> None:
        """Begin the handshake."""
        if self._is_closed:
            transport.abort()
            return
        self._below = transport
        self._shake()

    def open_failed(self, failure: OpenFailure) -> None:
        """Report that there is no connection."""
        if not self._is_closed:
            self._is_closed = True
            self._user.open_failed(failure)

    def data_received(self, data: bytes) -> None:
        """Decrypt everything at once: what the relay cannot pass on is less than a read, and reading then pauses.

        Bytes after the server's close_notify are ignored (RFC 8446 section 6.1); kept, they would fill the memory.
        """
        if self._is_closed or self._has_server_ended:
            return
        self._incoming.write(data)
        if not self._is_open:
            self._shake()
        if self._is_open:
            self._decrypt()

    def eof_received(self) -> bool:
        """Note that no bytes follow; the end of the server's direction is its close_notify."""
        self._incoming.write_eof()
        if not self._is_closed:
            if self._is_open:
                self._decrypt()
            else:
                self._fail(CLOSED, f"{FAILED}: the server has closed the connection")
        return True

    def connection_lost(self, error: Exception | None) -> None:
        """Report the end."""
        self._below = None
        if self._close_timer is not None:
            self._close_timer.cancel()
        if self._is_closed:
            return
        if not self._is_open:
            self._fail(CLOSED, f"{FAILED}: the server has closed the connection")
        elif error is not None or not self._has_server_ended:
            self._lose(error or ConnectionResetError())
        else:
            self._is_closed = True
            self._user.connection_lost(None)

    def pause_writing(self) -> None:
        """Pass it on."""
        self._is_write_paused = True
        if self._is_open:
            self._user.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._is_write_paused, self._unread_answers = False, 0
        if self._is_open:
            self._user.resume_writing()

    # --- as a transport, called by the relay

    def write(self, data: bytes) -> None:
        """Encrypt bytes and send them."""
        if self._is_closed or self._has_sent_end:
            return
        view = memoryview(data)
        try:
            while view:
                view = view[self._object.write(view) :]
        except ssl.SSLError as error:
            self._lose(error)
        else:
            self._flush()

    def can_write_eof(self) -> bool:
        """Return True: close_notify is an end."""
        return True

    def write_eof(self) -> None:
        """End the direction to the server; the other one goes on."""
        if not self._is_closed:
            self._send_end()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the limits at which the user is paused."""
        if self._below is not None:
            self._below.set_write_buffer_limits(high=high, low=low)

    def pause_reading(self) -> None:
        """Read nothing more from the server."""
        if self._below is not None and not self._has_server_ended:
            self._below.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if self._below is not None and not self._has_server_ended:
            self._below.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what the transport below knows."""
        return default if self._below is None else self._below.get_extra_info(name, default)

    def is_closing(self) -> bool:
        """Whether it was closed or lost."""
        return self._is_closed

    def close(self) -> None:
        """Say that nothing follows, send what was written, and close."""
        if self._is_closed:
            return
        self._send_end()
        self._is_closed = True
        if self._below is not None:
            self._close_below()

    def abort(self) -> None:
        """Close at once; unsent bytes are lost."""
        self._is_closed = True
        if self._below is not None:
            self._below.abort()

    # --- TLS

    def _shake(self) -> None:
        """Continue the handshake with what has arrived."""
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLCertVerificationError as error:
            self._fail(CERTIFICATE, f"the server's certificate is not trusted: {error.verify_message}")
        except ssl.SSLError as error:
            self._fail(HANDSHAKE, f"{FAILED}: {error.reason or 'no reason'}")
        else:
            problem = self._check(self._object)
            if problem:  # the server has not got the end of the handshake, so it has accepted nothing
                self._outgoing.read()
                self._fail(CERTIFICATE, problem)
                return
            self._flush()
            self._is_open, self._opening = True, None
            self._user.connection_made(self)

    def _fail(self, reason: str, text: str) -> None:
        """Report a failed handshake, after the alert that says so was sent."""
        self._is_closed = True
        self._flush()
        if self._below is not None:
            self._close_below()
        self._note_failure(reason, text)
        self._user.open_failed(OpenFailure(text, _BAD_GATEWAY, is_servers_fault=True))

    def _close_below(self) -> None:
        """Close the connection below; what was written is sent in time, or never."""
        self._close_timer = asyncio.get_running_loop().call_later(CLOSE_LIMIT_S, self.abort)
        self._below.close()

    def _decrypt(self) -> None:
        """Pass on what has arrived, up to the server's end."""
        read, user = self._object.read, self._user
        while not (self._is_closed or self._has_server_ended):
            try:
                data = read(READ_BYTES)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                data = b""
            except ssl.SSLError as error:
                self._lose(error)
                return
            if data:
                user.data_received(data)
            else:
                self._has_server_ended = True
                user.eof_received()
        if self._is_write_paused:
            self._unread_answers += self._outgoing.pending
        if self._unread_answers > UNREAD_ANSWERS_BYTES:
            self._lose(ConnectionResetError())
            return
        self._flush()

    def _send_end(self) -> None:
        """Send close_notify, and the end of the connection below."""
        if self._has_sent_end or not self._is_open:
            return
        self._has_sent_end = True
        with contextlib.suppress(ssl.SSLError):  # it waits for the server's close_notify, which may come later
            self._object.unwrap()
        self._flush()
        if self._below is not None and self._below.can_write_eof():
            self._below.write_eof()

    def _flush(self) -> None:
        """Send what is encrypted."""
        if self._outgoing.pending and self._below is not None:
            self._below.write(self._outgoing.read())

    def _lose(self, error: Exception) -> None:
        """Report that the connection has broken, and reset it."""
        if self._is_closed:
            return
        self._is_closed = True
        below = self._below
        self._user.connection_lost(error)
        if below is not None:
            reset(below)
