"""Opens a connection over a path, and passes its transport to a protocol that knows nothing of paths.

Takes a path, a delivery and the protocol; returns None, or why there is no connection. TLS to a server inside a path
uses asyncio's implementation, because an event loop's `start_tls` only accepts transports of its own.
"""

import asyncio
import logging
import ssl
from asyncio.sslproto import SSLProtocol, SSLProtocolState
from typing import Any, cast

from maesh_core.plugin_system.transports import Delivery, OpenFailure, Path

_logger = logging.getLogger(__name__)
NO_ANSWER = "it did not answer in time"
BROKEN = "its transport failed"
TLS_BUFFER_BYTES = 65536
"""asyncio's buffer for decrypted bytes of one connection has 256 KiB."""


class _PendingProtocol:
    """Receives the outcome; a transport is passed on at once, so that no byte is lost. Implements OutgoingProtocol."""

    __slots__ = ("_outcome", "_protocol", "is_settled")

    def __init__(self, protocol: Any, outcome: "asyncio.Future[OpenFailure | None]") -> None:
        self._protocol = protocol
        self._outcome = outcome
        self.is_settled = False

    def __repr__(self) -> str:
        return f"<_PendingProtocol for {self._protocol!r}>"

    def connection_made(self, transport: Any) -> None:
        """Pass the transport on."""
        self.is_settled = True
        transport.set_protocol(self._protocol)
        self._protocol.connection_made(transport)
        self._settle(None)

    def open_failed(self, failure: OpenFailure) -> None:
        """Report that there is no connection."""
        self.is_settled = True
        self._settle(failure)

    def _settle(self, failure: OpenFailure | None) -> None:
        if not self._outcome.done():
            self._outcome.set_result(failure)

    def data_received(self, data: bytes) -> None:
        """Do nothing: the transport has another protocol before its first byte."""

    def eof_received(self) -> bool | None:
        """Do nothing."""

    def connection_lost(self, error: Exception | None) -> None:
        """Do nothing."""

    def pause_writing(self) -> None:
        """Do nothing."""

    def resume_writing(self) -> None:
        """Do nothing."""


async def open_path(path: Path, delivery: Delivery, protocol: Any, *, patience_s: float) -> OpenFailure | None:
    """Open a connection; wait longer than `patience_s` only if there is a connection to the node.

    Cancelling this cancels the opening.
    """
    outcome: asyncio.Future[OpenFailure | None] = asyncio.get_running_loop().create_future()
    pending = _PendingProtocol(protocol, outcome)
    try:
        opening = path.open(delivery, pending)
    except Exception as error:  # a plugin's error is a path that cannot be opened
        _logger.error("a transport failed to open a path: %r", error)
        return OpenFailure(BROKEN, 0, is_servers_fault=False)
    try:
        await asyncio.wait((outcome,), timeout=patience_s)
        if not outcome.done() and not opening.has_connection:
            return OpenFailure(NO_ANSWER, 0, is_servers_fault=False)
        return await outcome
    finally:
        if not pending.is_settled:
            opening.cancel()


class _PathTls(SSLProtocol):
    """TLS over a transport that calls `data_received`, as those of paths do."""

    max_size = TLS_BUFFER_BYTES

    def data_received(self, data: bytes) -> None:
        """Decrypt bytes."""
        view = memoryview(data)
        while view:
            buffer = self.get_buffer(len(view))
            size = min(len(buffer), len(view))
            buffer[:size] = view[:size]
            self.buffer_updated(size)
            view = view[size:]

    def path_retired(self) -> None:
        """Pass it on: the tunnel is to be replaced."""
        on_retired = getattr(self._app_protocol, "path_retired", None)
        if on_retired is not None:
            on_retired()

    # asyncio calls methods of its own transports in these

    def _abort(self, *_: Any) -> None:
        self._set_state(SSLProtocolState.UNWRAPPED)  # type: ignore[attr-defined]
        transport: Any = self._transport
        if transport is not None:
            transport.abort()

    def _fatal_error(self, exc: BaseException, message: str = "") -> None:
        self._abort()

    def _check_shutdown_timeout(self) -> None:
        if self._state in (SSLProtocolState.FLUSHING, SSLProtocolState.SHUTDOWN):  # type: ignore[attr-defined]
            self._abort()


async def start_tls_on_path(
    transport: asyncio.Transport,
    protocol: asyncio.BaseProtocol,
    context: ssl.SSLContext,
    *,
    server_hostname: str,
    handshake_timeout_s: float,
) -> asyncio.Transport:
    """Do what `loop.start_tls` does, over the transport of a path. Raises OSError, which includes ssl.SSLError."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    tls = _PathTls(
        loop,
        protocol,
        context,
        ready,
        server_hostname=server_hostname,
        call_connection_made=False,
        ssl_handshake_timeout=cast("int", handshake_timeout_s),
    )
    transport.set_protocol(tls)
    tls.connection_made(transport)
    try:
        await ready
    except BaseException:
        transport.abort()
        raise
    return cast("asyncio.Transport", tls._app_transport)  # noqa: SLF001 - as asyncio's loops do
