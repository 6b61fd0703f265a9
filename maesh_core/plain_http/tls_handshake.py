"""Begins a TLS handshake on a connection whose first bytes have been read already.

Takes asyncio's transport, the protocol behind TLS, a context and those bytes; returns the transport of the protocol.
`loop.start_tls` cannot be used, because it only reads what comes later.
"""

import asyncio
import ssl
from asyncio.sslproto import SSLProtocol
from typing import Any, Final, cast

TLS_BUFFER_BYTES: Final = 16 * 1024
"""Bytes that are read at once of a connection. asyncio has a buffer of 256 KiB from before the first byte."""


class _SmallTls(SSLProtocol):
    """TLS with a buffer that many clients can have who have proven nothing."""

    max_size = TLS_BUFFER_BYTES


def start_handshake(
    transport: asyncio.Transport,
    protocol: asyncio.Protocol,
    context: ssl.SSLContext,
    received: bytes,
    *,
    limit_s: float,
) -> "asyncio.Task[asyncio.Transport]":
    """Begin to answer a client's handshake. The task raises OSError (ssl.SSLError is one) if it fails."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    tls = _SmallTls(
        loop,
        protocol,
        context,
        ready,
        server_side=True,
        call_connection_made=False,
        ssl_handshake_timeout=cast("int", limit_s),
    )
    transport.set_protocol(tls)
    tls.connection_made(transport)
    view = memoryview(received)
    while view:
        buffer: Any = tls.get_buffer(len(view))
        size = min(len(buffer), len(view))
        buffer[:size] = view[:size]
        tls.buffer_updated(size)
        view = view[size:]
    return loop.create_task(_wait(ready, tls))


async def _wait(ready: "asyncio.Future[Any]", tls: SSLProtocol) -> asyncio.Transport:
    await ready
    return cast("asyncio.Transport", tls._app_transport)  # noqa: SLF001 - as asyncio's loops do
