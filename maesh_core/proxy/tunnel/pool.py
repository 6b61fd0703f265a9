"""The sender's tunnels of one worker: for each node at most CONNECTIONS_PER_PEER connections that accept new streams.

Takes peers and deliveries. Opens a stream on a connection with room, or connects first, to the peer's addresses in
order. A stream that the receiver has not processed is opened once more on another connection: nothing was sent on it.
"""

import ssl
from collections import deque
from typing import Final

from maesh_core.plugin_system.transports import Delivery, OpenFailure, OutgoingProtocol, Peer
from maesh_core.proxy.tunnel.dialing import DialingOwner, OutgoingLink
from maesh_core.proxy.tunnel.environment import TunnelEnvironment
from maesh_core.proxy.tunnel.limits import CONNECTIONS_PER_PEER, WAITING_PER_PEER
from maesh_core.proxy.tunnel.outgoing import (
    NO_CONNECTION,
    OutgoingConnection,
    OutgoingStream,
    StreamOpening,
)
from maesh_core.proxy.tunnel.pacer import HandshakePacer

ATTEMPTS: Final = 2
"""Connections on which a stream is opened, as long as no receiver has processed it."""


class PendingOpen(StreamOpening):
    """An open from its request to its answer: an `Opening`."""

    __slots__ = ("_attempts_left", "_has_failed", "_pool", "_protocol", "_stream", "delivery")

    def __init__(self, pool: "PeerPool", delivery: Delivery, protocol: OutgoingProtocol) -> None:
        self._pool = pool
        self.delivery = delivery
        self._protocol: OutgoingProtocol | None = protocol
        self._stream: OutgoingStream | None = None
        self._attempts_left = ATTEMPTS
        self._has_failed = False

    def __repr__(self) -> str:
        return f"<PendingOpen {self.delivery.address}:{self.delivery.port}>"

    @property
    def is_wanted(self) -> bool:
        """Whether it was neither cancelled nor answered."""
        return self._protocol is not None and not self._has_failed

    @property
    def has_connection(self) -> bool:
        """Whether there is a connection to the node, so that only the answer about the server is missing."""
        return self._stream is not None

    def begin(self, connection: OutgoingConnection) -> None:
        """Open the stream on a connection with room."""
        self._attempts_left -= 1
        try:
            self._stream = connection.open(self.delivery, self)
        except ValueError:
            self.fail(OpenFailure("the delivery has characters beyond ASCII", NO_CONNECTION, is_servers_fault=False))

    def cancel(self) -> None:
        """Stop it; nothing is called afterwards."""
        self._protocol = None
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.cancel()

    def fail(self, failure: OpenFailure) -> None:
        """Report that there is no connection, in a later turn of the loop."""
        self._stream = None
        if self.is_wanted:
            self._has_failed = True
            self._pool.environment.loop.call_soon(self._report, failure)

    def _report(self, failure: OpenFailure) -> None:
        protocol, self._protocol = self._protocol, None
        if protocol is not None:  # it may have been cancelled in the meantime
            protocol.open_failed(failure)

    def on_opened(self, stream: OutgoingStream) -> None:
        """Pass the stream to its protocol."""
        protocol, self._protocol = self._protocol, None
        self._stream = None
        if protocol is not None:
            stream.start(protocol)

    def on_refused(self, failure: OpenFailure) -> None:
        """Report the receiver's decision."""
        self.fail(failure)

    def on_unprocessed(self, reason: str) -> None:
        """Try another connection, or report the failure."""
        self._stream = None
        if self._attempts_left and self.is_wanted:
            self._pool.open(self)
        else:
            self.fail(OpenFailure(reason, NO_CONNECTION, is_servers_fault=False))


class PeerPool(DialingOwner):
    """The connections to one node. `context` is None until there are certificates."""

    __slots__ = (
        "_addresses_left",
        "_connections",
        "_dialing",
        "_links",
        "_pacer",
        "_session",
        "_waiting",
        "context",
        "environment",
        "is_dropped",
        "peer",
    )

    def __init__(
        self, environment: TunnelEnvironment, pacer: HandshakePacer, peer: Peer, context: ssl.SSLContext | None
    ) -> None:
        self.environment = environment
        self._pacer = pacer
        self.peer = peer
        self.context = context
        self.is_dropped = False
        self._session: ssl.SSLSession | None = None
        self._connections: list[OutgoingConnection] = []
        """Those that accept new streams."""
        self._links: dict[OutgoingLink, None] = {}
        """All that are open."""
        self._dialing: OutgoingLink | None = None
        self._addresses_left: list[str] = []
        self._waiting: deque[PendingOpen] = deque()

    def __repr__(self) -> str:
        return f"<PeerPool {self.peer.node} connections={len(self._connections)} waiting={len(self._waiting)}>"

    @property
    def is_unused(self) -> bool:
        """Whether it has no connection and nothing to do."""
        return not self._links and not self._waiting

    # --- what it is asked for

    def open(self, opening: PendingOpen) -> None:
        """Open a stream on a connection with room, or on a new one."""
        for connection in self._connections:
            if connection.has_room:
                opening.begin(connection)
                return
        if self.is_dropped or self.context is None:
            self._fail(opening, "this node has no valid certificate" if self.context is None else "the node is gone")
        elif len(self._waiting) >= WAITING_PER_PEER:
            self._fail(opening, "too many connections wait for the node")
        elif self._dialing is not None or len(self._connections) < CONNECTIONS_PER_PEER:
            self._waiting.append(opening)
            self._dial_if_needed()
        else:
            self._fail(opening, "every connection to the node is full")

    def update(self, peer: Peer) -> None:
        """Use another description of the node: connections that do not fit it open no further streams."""
        if peer != self.peer:
            self.peer = peer
            for link in list(self._links):
                if link.peer.identity != peer.identity or link.address not in peer.addresses:
                    self._retire(link)

    def replace(self, context: ssl.SSLContext) -> None:
        """Use another context for new connections, and retire all others."""
        self.context = context
        self._session = None
        for link in list(self._links):
            self._retire(link)

    def limit(self, ends_at: float) -> None:
        """End the connections that are open now at this time, or before."""
        for link in self._links:
            link.ends_at = min(link.ends_at, ends_at)

    def drop(self, reason: str) -> None:
        """Reset all connections."""
        self.is_dropped = True
        self._addresses_left = []
        for link in list(self._links):
            link.lose(reason)
        self._fail_waiting("the node is gone")

    def sweep(self, now: float) -> None:
        """End waits that have lasted too long."""
        for link in list(self._links):
            link.check(now)

    def _retire(self, link: OutgoingLink) -> None:
        link.was_replaced = True
        connection = link.connection
        if isinstance(connection, OutgoingConnection):
            connection.retire()
        else:
            link.lose("replaced")

    # --- connecting

    def _dial_if_needed(self) -> None:
        if self._dialing is None and self._waiting and len(self._connections) < CONNECTIONS_PER_PEER:
            self._addresses_left = list(self.peer.addresses)
            self._dial_next("the node has no address")

    def _dial_next(self, reason: str) -> None:
        context = self.context
        if not self._addresses_left or context is None:
            self._fail_waiting(reason)
            return
        address = self._addresses_left.pop(0)
        link = OutgoingLink(
            self.environment,
            self._pacer,
            self,
            peer=self.peer,
            address=address,
            context=context,
            session=self._session,
        )
        self._dialing = link
        self._links[link] = None
        link.dial()

    def _fail(self, opening: PendingOpen, reason: str) -> None:
        opening.fail(OpenFailure(reason, NO_CONNECTION, is_servers_fault=False))

    def _fail_waiting(self, reason: str) -> None:
        waiting, self._waiting = self._waiting, deque()
        for opening in waiting:
            self._fail(opening, reason)

    def _serve_waiting(self) -> None:
        waiting = self._waiting
        for connection in list(self._connections):
            while waiting and connection.has_room:
                opening = waiting.popleft()
                if opening.is_wanted:
                    opening.begin(connection)
        while waiting and not waiting[0].is_wanted:
            waiting.popleft()
        if waiting and len(self._connections) >= CONNECTIONS_PER_PEER:
            self._fail_waiting("every connection to the node is full")
        self._dial_if_needed()

    # --- see DialingOwner

    def on_ready(self, connection: OutgoingConnection) -> None:
        """Open the streams that wait."""
        link, self._dialing = self._dialing, None
        self._addresses_left = []
        if link is not None:
            self._session = link.session
        self._connections.append(connection)
        self._serve_waiting()

    def on_room(self, connection: OutgoingConnection) -> None:
        """Nothing: streams wait only for a new connection."""

    def on_retired(self, connection: OutgoingConnection) -> None:
        """Open no further streams on a connection."""
        if connection in self._connections:
            self._connections.remove(connection)

    def on_connection_ended(self, connection: OutgoingConnection) -> None:
        """Forget a connection."""
        self.on_retired(connection)

    def on_link_closed(self, link: OutgoingLink, reason: str) -> None:
        """Forget a connection, or try another address if it was never established."""
        self._links.pop(link, None)
        if link is not self._dialing:
            return
        self._dialing = None
        self._session = None
        if not self.is_dropped:
            if link.was_replaced:
                self._dial_if_needed()
            else:
                self._dial_next(f"no connection to the node ({reason or 'closed'})")
