"""The receiver's TLS connections: accepts them, limits unfinished handshakes, and checks whose certificate it is.

Takes a listening socket and a server context. Unfinished handshakes are limited in time, in number, and per source
address, so that connections that never finish one cannot keep nodes out for long.
"""

import logging
import socket
import ssl

from maesh_core.proxy.tcp.listener import TcpListener
from maesh_core.proxy.tunnel.connection import TunnelConnection
from maesh_core.proxy.tunnel.counters import INCOMING
from maesh_core.proxy.tunnel.identity import PeerRefusedError, check_session, read_certificate_time
from maesh_core.proxy.tunnel.incoming import IncomingConnection
from maesh_core.proxy.tunnel.limits import HANDSHAKES_LIMIT, HANDSHAKES_PER_ADDRESS, TUNNELS_PER_NODE
from maesh_core.proxy.tunnel.link import TunnelLink
from maesh_core.proxy.tunnel.pacer import HandshakePacer
from maesh_core.proxy.tunnel.pod_connection import PodStream
from maesh_core.proxy.tunnel.receiver import Receiver, change_count
from maesh_core.proxy.tunnel.served_stream import ServedStream
from maesh_core.proxy.tunnel.tls_socket import TlsSocket

_logger = logging.getLogger(__name__)


class IncomingLink(TunnelLink):
    """One accepted connection."""

    __slots__ = ("_doors", "_is_counted", "address")

    def __init__(self, doors: "Doors", pacer: HandshakePacer, address: str) -> None:
        super().__init__(doors.receiver.environment, pacer, INCOMING)
        self._doors = doors
        self._is_counted = True
        self.address = address

    @property
    def node(self) -> str:
        """The node at the other end; empty during the handshake."""
        connection = self.connection
        return connection.node if isinstance(connection, IncomingConnection) else ""

    def on_secured(self, tls: TlsSocket) -> TunnelConnection:
        """Find out which node this is, and begin. Raises PeerRefusedError."""
        certificate = check_session(tls.object)
        receiver = self._doors.receiver
        try:
            node = receiver.rules.find_identity(certificate, self.address)
        except Exception as error:  # fail closed
            _logger.error("the rules of tunnels failed; a connection from %s is refused: %r", self.address, error)
            node = None
        if not node:
            raise PeerRefusedError("identity")
        if receiver.tunnels.get(node, 0) >= TUNNELS_PER_NODE:
            raise PeerRefusedError("limit")
        connection = IncomingConnection(receiver, node, read_certificate_time(certificate["notAfter"]))
        connection.begin(self)
        return connection

    def on_established(self) -> None:
        """End the count of unfinished handshakes."""
        self._uncount()

    def on_closed(self, reason: str) -> None:
        """Forget the connection."""
        self._uncount()
        self._doors.links.pop(self, None)

    def retire(self) -> None:
        """Accept no further streams; end a handshake that is not finished."""
        connection = self.connection
        if isinstance(connection, IncomingConnection):
            connection.retire()
        else:
            self.lose("replaced")

    def _uncount(self) -> None:
        if self._is_counted:
            self._is_counted = False
            self._doors.uncount(self.address)


class Doors:
    """The accepted connections of a worker. `context` is None until there are certificates."""

    __slots__ = ("_pacer", "_unfinished", "_unfinished_by_address", "context", "links", "receiver")

    def __init__(self, receiver: Receiver, pacer: HandshakePacer) -> None:
        self.receiver = receiver
        self._pacer = pacer
        self.context: ssl.SSLContext | None = None
        self.links: dict[IncomingLink, None] = {}
        self._unfinished = 0
        self._unfinished_by_address: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Doors {len(self.links)} connections, {self._unfinished} unfinished>"

    def listen(self, sock: socket.socket, entrypoint: int) -> TcpListener:
        """Accept connections from a socket, which the listener owns."""
        return TcpListener(self.receiver.environment.sockets, sock, entrypoint, self.accept)

    def accept(self, sock: socket.SocketType, address: str, entrypoint: int) -> None:
        """Start a handshake with an accepted client, or close it."""
        context = self.context
        if context is None or not self._has_room(address):
            reason = "no certificate" if context is None else "limit"
            self.receiver.environment.counters.count_failure(INCOMING, reason)
            sock.close()
            return
        self._unfinished += 1
        change_count(self._unfinished_by_address, address, 1)
        link = IncomingLink(self, self._pacer, address)
        self.links[link] = None
        link.begin_tls(sock, context, is_server=True, session=None)
        try:
            link.watch(sock)
        except OSError:
            link.lose("resources")

    def _has_room(self, address: str) -> bool:
        by_address = self._unfinished_by_address.get(address, 0)
        return self._unfinished < HANDSHAKES_LIMIT and by_address < HANDSHAKES_PER_ADDRESS

    def uncount(self, address: str) -> None:
        """Record that a handshake has ended."""
        self._unfinished -= 1
        change_count(self._unfinished_by_address, address, -1)

    def list_accepting(self) -> list[IncomingConnection]:
        """Return the connections that accept streams, the oldest first."""
        connections = [link.connection for link in self.links]
        return [each for each in connections if isinstance(each, IncomingConnection) and not each.is_retired]

    def list_streams(self) -> list[tuple[str, PodStream | ServedStream]]:
        """Return the open streams of all nodes, each with its node."""
        return [
            (link.node, stream)
            for link in self.links
            if link.connection is not None
            for stream in link.connection.streams.values()
            if isinstance(stream, PodStream | ServedStream)
        ]

    def retire(self) -> None:
        """Accept no further streams on the open connections."""
        for link in list(self.links):
            link.retire()

    def limit(self, ends_at: float) -> None:
        """End the connections that are open now at this time, or before."""
        for link in self.links:
            link.ends_at = min(link.ends_at, ends_at)

    def list_expired(self) -> list[ServedStream]:
        """Return the streams with judged requests whose connections have a certificate that has ended."""
        connections = [link.connection for link in self.links]
        return [
            stream
            for connection in connections
            if isinstance(connection, IncomingConnection) and connection.is_expired
            for stream in connection.streams.values()
            if isinstance(stream, ServedStream)
        ]

    def drop(self, node: str) -> None:
        """Reset the connections of a node."""
        for link in list(self.links):
            if link.node == node:
                link.lose("dropped")

    def abort(self) -> None:
        """Reset every connection."""
        for link in list(self.links):
            link.lose("aborted")

    def sweep(self, now: float) -> None:
        """End waits that have lasted too long."""
        for link in list(self.links):
            link.check(now)
