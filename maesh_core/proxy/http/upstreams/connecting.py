"""A connection to a server while it is made for one exchange: TCP, then TLS where the scheme asks for it.

Takes a server and an exchange; hands the exchange the connection, or the error that it is answered with. Until then the
connection belongs to this module: one that is cancelled, comes too late or has the wrong certificate is closed here.
"""

import asyncio
import ssl
from typing import TYPE_CHECKING, cast

from maesh_core.errors import ConnectTimeoutError, ExchangeError, UpstreamNotReachedError
from maesh_core.proxy.http.exchanges.owner import Owner
from maesh_core.proxy.http.upstreams.upstream_connection import UpstreamConnection

if TYPE_CHECKING:
    from maesh_core.proxy.http.upstreams.connection_pool import HttpServer


class PendingConnection:
    """One connect. `task` ends when the exchange has its connection or its error."""

    __slots__ = ("_exchange", "_upstream", "task")

    def __init__(self, server: "HttpServer", exchange: Owner) -> None:
        self._exchange: Owner | None = exchange
        self._upstream = UpstreamConnection(server)
        self.task = asyncio.get_running_loop().create_task(self._run(server))

    def __repr__(self) -> str:
        return f"<PendingConnection {self._upstream!r} for {self._exchange!r}>"

    def cancel(self) -> None:
        """Close the connection, however far it is; the exchange is told nothing.

        All of it happens here and nothing in the task, which may never have run.
        """
        self._exchange = None
        self._upstream.discard()
        self.task.cancel()

    async def _run(self, server: "HttpServer") -> None:
        upstream = self._upstream
        try:
            error = await self._connect(server)
        except BaseException:
            upstream.discard()
            raise
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            upstream.discard()
            return
        server.on_connect_ended(exchange)
        if error is None and upstream.transport is None:  # it has ended since
            error = UpstreamNotReachedError("no connection to the upstream")
        if error is None:
            exchange.on_connected(upstream)
        else:
            upstream.discard()
            server.note_failure(exchange)
            exchange.on_connect_failed(error)

    async def _connect(self, server: "HttpServer") -> ExchangeError | None:
        """Connect, and return the error that says why there is no connection."""
        try:
            async with asyncio.timeout(server.environment.settings.connect_timeout):
                await self._open(server)
        except TimeoutError:
            return ConnectTimeoutError("no connection to the upstream in time")
        except ssl.SSLCertVerificationError as failure:
            return UpstreamNotReachedError(f"the upstream's certificate is not trusted: {failure.verify_message}")
        except ssl.SSLError as failure:
            return UpstreamNotReachedError(f"no TLS with the upstream: {failure.reason}")
        except UpstreamNotReachedError as failure:
            return failure
        except (OSError, ValueError, OverflowError):  # the latter two: an address or port that there cannot be
            return UpstreamNotReachedError("no connection to the upstream")
        return None

    async def _open(self, server: "HttpServer") -> None:
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
