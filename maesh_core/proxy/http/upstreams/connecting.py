"""A connection to a server while it is made for one attempt: TCP, then TLS where the scheme asks for it.

Takes a server and a receiver (upstream_stream.py), and passes the receiver the connection, or the error that says why
there is none. Until then the connection belongs to this module: one that is cancelled, comes too late or has the wrong
certificate is closed here.
"""

import asyncio
import ssl
from typing import Protocol, cast

from maesh_core.errors import ConnectTimeoutError, ExchangeError, UpstreamNotReachedError
from maesh_core.proxy.http.exchanges.answers import CONNECT_TIMEOUT, NOT_CONNECTED
from maesh_core.proxy.http.upstreams.server_key import ServerKey
from maesh_core.proxy.http.upstreams.upstream_connection import Pool, UpstreamConnection
from maesh_core.proxy.http.upstreams.upstream_stream import ResponseReceiver


class ConnectablePool(Pool, Protocol):
    """The server as this module sees it."""

    __slots__ = ()

    key: ServerKey

    def on_connect_ended(self, receiver: ResponseReceiver) -> None:
        """Note that the connection for a receiver is made, or cannot be made."""


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
        """Close the connection, however far it is; the receiver is not called.

        All of it happens here and nothing in the task, which may never have run.
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
        if error is None and upstream.transport is None:  # it has ended since
            error = UpstreamNotReachedError(NOT_CONNECTED)
        if error is None:
            receiver.on_connected(upstream)
        else:
            upstream.discard()
            server.note_failure(receiver)
            receiver.on_connect_failed(error)

    async def _connect(self, server: ConnectablePool) -> ExchangeError | None:
        """Connect, and return the error that says why there is no connection."""
        try:
            async with asyncio.timeout(server.environment.settings.connect_timeout):
                await self._open(server)
        except TimeoutError:
            return ConnectTimeoutError(CONNECT_TIMEOUT)
        except ssl.SSLCertVerificationError as failure:
            return UpstreamNotReachedError(f"the upstream's certificate is not trusted: {failure.verify_message}")
        except ssl.SSLError as failure:
            return UpstreamNotReachedError(f"no TLS with the upstream: {failure.reason}")
        except UpstreamNotReachedError as failure:
            return failure
        except (OSError, ValueError, OverflowError):  # the latter two: an address or port that there cannot be
            return UpstreamNotReachedError(NOT_CONNECTED)
        return None

    async def _open(self, server: ConnectablePool) -> None:
        """Open a connection, with TLS where the scheme asks for it. Raises OSError, UpstreamNotReachedError."""
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
        )
        if transport is None or transport.is_closing():  # uvloop: the connection ended within the handshake
            raise ConnectionResetError
        upstream.begin_tls(transport)
        if not tls.is_for(transport.get_extra_info("ssl_object"), address=address, name=name):
            names = f"{address} nor for {name}" if name else address
            raise UpstreamNotReachedError(f"the upstream's certificate is not for {names}")
