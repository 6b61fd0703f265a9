"""How an HTTP/1 client connection ends: by a close, by a reset, or by reading and discarding for a while.

A close sends what was written first. After an answer to a request that was not read completely, closing at once could
destroy the answer, so the connection lingers (linger.py). When it ends is decided by client_connection.py.
"""

from maesh_core.proxy.http.clients.linger import Linger
from maesh_core.proxy.http.clients.responding import RespondingConnection
from maesh_core.proxy.http.environment import Environment
from maesh_core.proxy.http.http2.frames import INTERNAL_ERROR
from maesh_core.proxy.http.transports import reset


class EndingConnection(RespondingConnection):
    """Ends. `_is_lingering` means that what the client sends is discarded."""

    __slots__ = ("_is_lingering", "_lingering")

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._is_lingering = False
        self._lingering: Linger | None = None

    def close(self) -> None:
        """Close once all written bytes are sent, or when the client does not read them in time."""
        if self._transport is not None:
            self._is_closing = True
            self._transport.close()
            self._wait_for_reader(self.environment.settings.body_timeout)

    def abort(self, code: int = INTERNAL_ERROR) -> None:
        """Reset the connection, so that the client cannot mistake a partial response for a complete one."""
        self._is_closing = True
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.on_client_gone()
        if self._transport is not None:
            reset(self._transport)

    def _linger(self) -> None:
        """Shut down our side, and discard what the client still sends for a while (RFC 9112 section 9.6)."""
        transport = self._transport
        if transport is None:
            return
        if self._is_eof:
            self.close()
            return
        self._is_lingering = True
        self._buffer.clear()
        self.exchange = None
        if transport.can_write_eof() and not transport.is_closing():
            transport.write_eof()
        self.resume_reading()
        self._lingering = Linger(self.environment.clock.now)
        self.deadline = self._lingering.deadline
