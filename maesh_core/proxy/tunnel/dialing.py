"""The sender's TLS connection to another node: the TCP connect, the handshake, and the check of the other's identity.

Takes one address of a node and a client context; passes the connection to the pool (pool.py) when the receiver has
accepted this node's certificate, or says why it could not be opened.
"""

import errno
import select
import socket
import ssl
from typing import Final, Protocol

from maesh_core.plugin_system.transports import Peer
from maesh_core.proxy.tunnel.connection import TunnelConnection
from maesh_core.proxy.tunnel.counters import OUTGOING
from maesh_core.proxy.tunnel.environment import TunnelEnvironment
from maesh_core.proxy.tunnel.identity import check_identity, check_session
from maesh_core.proxy.tunnel.link import TunnelLink
from maesh_core.proxy.tunnel.outgoing import OutgoingConnection, OutgoingOwner
from maesh_core.proxy.tunnel.pacer import HandshakePacer
from maesh_core.proxy.tunnel.tls_socket import TlsSocket

_STREAM: Final = int(socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
_CONNECTING: Final = frozenset({0, errno.EINPROGRESS})


class DialingOwner(OutgoingOwner, Protocol):
    """What dials (pool.py)."""

    __slots__ = ()

    def on_link_closed(self, link: "OutgoingLink", reason: str) -> None:
        """Forget a connection, or try another address if it was never established."""


class OutgoingLink(TunnelLink):
    """One TLS connection to a node, from its connect on."""

    __slots__ = ("_context", "_owner", "_session", "_socket", "address", "peer", "was_replaced")

    def __init__(
        self,
        environment: TunnelEnvironment,
        pacer: HandshakePacer,
        owner: DialingOwner,
        *,
        peer: Peer,
        address: str,
        context: ssl.SSLContext,
        session: ssl.SSLSession | None,
    ) -> None:
        super().__init__(environment, pacer, OUTGOING)
        self._owner = owner
        self._context = context
        self._session = session
        self._socket: socket.SocketType | None = None
        self.peer = peer
        self.address = address
        self.was_replaced = False
        """Whether it ends because there are new certificates or addresses, so that another one is opened."""

    def dial(self) -> None:
        """Connect. A failure is reported in a later turn of the loop."""
        address = self.address
        try:
            self._socket = sock = socket.SocketType(socket.AF_INET6 if ":" in address else socket.AF_INET, _STREAM, 0)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if (code := sock.connect_ex((address, self.peer.port))) not in _CONNECTING:
                raise OSError(code, "not connected")
            self.watch(sock)
        except (OSError, OverflowError):  # OverflowError: an invalid port
            self.environment.loop.call_soon(self.lose, "connect")

    def on_event(self, events: int) -> None:
        """Start the handshake when the socket is connected."""
        sock = self._socket
        if sock is None:
            super().on_event(events)
            return
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.lose("connect")
        elif events & select.EPOLLOUT:
            self._socket = None
            self.begin_tls(sock, self._context, is_server=False, session=self._session)

    def on_secured(self, tls: TlsSocket) -> TunnelConnection:
        """Check that the other side is the node that is meant, and begin. Raises PeerRefusedError."""
        certificate = check_session(tls.object)
        check_identity(certificate, self.peer.identity, self.peer.revoked)
        connection = OutgoingConnection(self.environment, self._owner)
        connection.begin(self)
        return connection

    @property
    def session(self) -> ssl.SSLSession | None:
        """What a later handshake can resume."""
        tls = self.tls
        return tls.object.session if tls is not None else None

    def on_established(self) -> None:
        """Nothing: the connection reports itself to the pool when it has the receiver's settings."""

    def on_closed(self, reason: str) -> None:
        """Report the end to the pool."""
        sock, self._socket = self._socket, None
        if sock is not None:
            self.environment.sockets.close_socket(sock)
        self._owner.on_link_closed(self, reason)
