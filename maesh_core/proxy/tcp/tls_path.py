"""Paths of TCP services whose servers speak TLS: over a socket, or over another path.

Takes a server and the trust in servers; opens connections that are encrypted and verified (tls_connection.py). There is
no path in clear here, so a server that must get TLS never gets anything else.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import final

from maesh_core.plugin_system.node import StreamServer
from maesh_core.plugin_system.transports import Delivery, OpenFailure, Opening, OutgoingProtocol, Path
from maesh_core.proxy.http.tls import UpstreamTls
from maesh_core.proxy.tcp.environment import LOCAL_ERRORS
from maesh_core.proxy.tcp.tls_connection import TlsConnection

NOT_CONNECTED = "not connected"


@final
class SocketPath:
    """A connection to a server's own address, without a transport."""

    __slots__ = ("_server",)

    def __init__(self, server: StreamServer) -> None:
        self._server = server

    def __repr__(self) -> str:
        return f"<SocketPath {self._server!r}>"

    def open(self, delivery: Delivery, protocol: OutgoingProtocol) -> Opening:
        """Connect to the server; the delivery does not matter."""
        del delivery
        return _Connecting(self._server.socket_address, protocol)


@final
class _Connecting:
    """A socket that is being connected."""

    __slots__ = ("_protocol", "_task")

    has_connection = True
    """No node is between this one and the server."""

    def __init__(self, address: tuple[str, int], protocol: OutgoingProtocol) -> None:
        self._protocol = protocol
        self._task = asyncio.get_running_loop().create_task(self._connect(*address))

    def __repr__(self) -> str:
        return f"<_Connecting {self._task!r}>"

    async def _connect(self, address: str, port: int) -> None:
        loop, protocol = asyncio.get_running_loop(), self._protocol
        try:
            transport, _ = await loop.create_connection(lambda: protocol, address, port)  # type: ignore[type-var]
        except (OSError, OverflowError, ValueError) as error:  # OverflowError, ValueError: an invalid address or port
            is_local = getattr(error, "errno", None) in LOCAL_ERRORS
            protocol.open_failed(OpenFailure(NOT_CONNECTED, 0, is_servers_fault=not is_local))
            return
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.fileno() >= 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def cancel(self) -> None:
        """Stop it; nothing is called afterwards."""
        self._task.cancel()


@final
class TlsPath:
    """TLS to a server, inside another path."""

    __slots__ = ("_below", "_note_failure", "_server", "_tls")

    def __init__(
        self, below: Path, server: StreamServer, tls: UpstreamTls, *, note_failure: Callable[[str, str], None]
    ) -> None:
        self._below, self._server = below, server
        self._tls = tls
        self._note_failure = note_failure

    def __repr__(self) -> str:
        return f"<TlsPath to {self._server.tls_name}>"

    def open(self, delivery: Delivery, protocol: OutgoingProtocol) -> TlsConnection:
        """Connect, and begin TLS. Raises ValueError for a name that no certificate can have."""
        server = self._server
        context = self._tls.get_stream_context(is_outside=bool(server.name))
        name = server.tls_name or server.socket_address[0]  # an address is not sent (RFC 6066 section 3)
        connection = TlsConnection(protocol, context, name, check=self._find_problem, note_failure=self._note_failure)
        connection.hold(self._below.open(delivery, connection))
        return connection

    def _find_problem(self, session: ssl.SSLObject) -> str:
        """Return why the certificate is not that of the server; empty if it is."""
        server = self._server
        address, name, is_outside = server.socket_address[0], server.tls_name, bool(server.name)
        if self._tls.accepts(session, address=address, name=name, is_outside=is_outside):
            return ""
        names = name if is_outside else f"{address} nor for {name}" if name else address
        return f"the server's certificate is not for {names}"
