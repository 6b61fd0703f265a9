"""Opens a connection to a server for one attempt: TCP, then TLS if the scheme requires it.

Takes a server and a receiver (upstream_stream.py), and passes the receiver the connection or an error. Until then this
module owns the connection, and closes it if it is cancelled, times out or has the wrong certificate. The connect
time-out includes the TLS handshake.
"""

import asyncio
import ssl
from typing import Protocol, cast

from maesh_core.errors import ConnectTimeoutError, ExchangeError, UpstreamNotReachedError
from maesh_core.proxy.http.answers import CONNECT_TIMEOUT, NOT_CONNECTED
from maesh_core.proxy.http.upstreams.server_key import ServerKey
from maesh_core.proxy.http.upstreams.upstream_connection import Pool, UpstreamConnection
from maesh_core.proxy.http.upstreams.upstream_stream import ResponseReceiver


class ConnectablePool(Pool, Protocol):
    """The part of a server that this module uses."""

    __slots__ = ()

    key: ServerKey

    def on_connect_ended(self, receiver: ResponseReceiver) -> None:
        """Record that the connect for a receiver has ended, successfully or not."""


class PendingConnection:
    """One connect. `task` ends when the receiver has its connection or its error."""

    __slots__ = ("_receiver", "_upstream", "task")

    def __init__(self, server: ConnectablePool, receiver: ResponseReceiver) -> None:
        self._receiver: ResponseReceiver | None = receiver
        self._upstream = UpstreamConnection(server)
        self.task = asyncio.get_running_loop().create_task(self._run(server))

    def __repr__(self) -> str:
        return f"<PendingConnection {self._upstream!r} for {self._receiver!r}>"

    def cancel(self) -> None:
        """Close the connection in whatever state it is; the receiver is not called.

        The cleanup happens here and not in the task, which may never have started.
        """
        self._receiver = None
        self._upstream.discard()
        self.task.cancel()

    async def _run(self, server: ConnectablePool) -> None:
        upstream = self._upstream
        try:
            error = await self._connect(server)
        except BaseException:
            upstream.discard()
            raise
        receiver, self._receiver = self._receiver, None
        if receiver is None:
            upstream.discard()
            return
        server.on_connect_ended(receiver)
        if error is None and upstream.transport is None:  # it ended in the meantime
            error = UpstreamNotReachedError(NOT_CONNECTED)
        if error is None:
            receiver.on_connected(upstream)
        else:
            upstream.discard()
            server.note_failure(receiver)
            receiver.on_connect_failed(error)

    async def _connect(self, server: ConnectablePool) -> ExchangeError | None:
        """Connect; return None, or the error of the failed connect."""
        try:
            async with asyncio.timeout(server.environment.settings.connect_timeout):
                await self._open(server)
        except TimeoutError:
            return ConnectTimeoutError(CONNECT_TIMEOUT)
        except ssl.SSLCertVerificationError as failure:
            return UpstreamNotReachedError(f"the upstream's certificate is not trusted: {failure.verify_message}")
        except ssl.SSLError as failure:
            return UpstreamNotReachedError(f"the TLS handshake with the upstream failed: {failure.reason}")
        except UpstreamNotReachedError as failure:
            return failure
        except (OSError, ValueError, OverflowError):  # ValueError, OverflowError: an invalid address or port
            return UpstreamNotReachedError(NOT_CONNECTED)
        return None

    async def _open(self, server: ConnectablePool) -> None:
        """Open a connection, with TLS if the scheme requires it. Raises OSError, UpstreamNotReachedError."""
        loop, upstream = asyncio.get_running_loop(), self._upstream
        _, address, port, name = server.key
        await loop.create_connection(lambda: cast("asyncio.BaseProtocol", upstream), address, port)
        if server.key.scheme != "https" or upstream.transport is None:
            return
        tls = server.environment.tls
        transport = await loop.start_tls(
            upstream.transport,
            cast("asyncio.BaseProtocol", upstream),
            tls.context,
            server_hostname=name or address,  # an address is not sent (RFC 6066 section 3)
            ssl_handshake_timeout=server.environment.settings.connect_timeout + 1.0,  # that of _connect() ends first
        )
        if transport is None or transport.is_closing():  # uvloop: the connection ended during the handshake
            raise ConnectionResetError
        upstream.begin_tls(transport)
        if not tls.is_for(transport.get_extra_info("ssl_object"), address=address, name=name):
            names = f"{address} nor for {name}" if name else address
            raise UpstreamNotReachedError(f"the upstream's certificate is not for {names}")
