"""The sender's half of a tunnel: opens streams to servers on another node, and reports refusals.

Takes deliveries and protocols. A stream is usable when the receiver has answered with 200; nothing is written before,
so a failed open is a failed connect. A connection that is retired opens no further streams, and ends with the last one.
"""

from typing import Final, Protocol

from maesh_core.plugin_system.transports import Delivery, OpenFailure, Refusal
from maesh_core.proxy.http.http2.errors import Http2ConnectionError, StreamError
from maesh_core.proxy.http.http2.fields import Fields
from maesh_core.proxy.http.http2.frames import CANCEL, NO_ERROR, PREFACE, PROTOCOL_ERROR, REFUSED_STREAM
from maesh_core.proxy.tunnel.connection import TunnelConnection
from maesh_core.proxy.tunnel.counters import OUTGOING
from maesh_core.proxy.tunnel.environment import TunnelEnvironment
from maesh_core.proxy.tunnel.limits import DIRECT_WRITES, IDLE_LIMIT_S, LAST_STREAM_ID, STREAM_LIMIT
from maesh_core.proxy.tunnel.open_fields import parse_answer, render_open
from maesh_core.proxy.tunnel.output import Channel
from maesh_core.proxy.tunnel.stream import TunnelStream
from maesh_core.proxy.tunnel.transport import StreamTransport

_SERVERS_FAULT: Final = frozenset({502, 504})
NO_CONNECTION: Final = 0
"""The status of a failure without an answer of the receiving node."""


class OutgoingOwner(Protocol):
    """What keeps the connections to one node (pool.py)."""

    __slots__ = ()

    def on_ready(self, connection: "OutgoingConnection") -> None:
        """Use a connection: the receiver has accepted it."""

    def on_room(self, connection: "OutgoingConnection") -> None:
        """Continue after a stream has ended."""

    def on_retired(self, connection: "OutgoingConnection") -> None:
        """Open no further streams on a connection."""

    def on_connection_ended(self, connection: "OutgoingConnection") -> None:
        """Forget a connection."""


class StreamOpening(Protocol):
    """An open on its way (pool.py): one of these is called, once."""

    __slots__ = ()

    def on_opened(self, stream: "OutgoingStream") -> None:
        """The server has accepted the connection."""

    def on_refused(self, failure: OpenFailure) -> None:
        """The receiving node has decided against it."""

    def on_unprocessed(self, reason: str) -> None:
        """The connection to the node has ended first; another one may be tried."""


class OutgoingStream(StreamTransport):
    """A stream to a server. `opening` waits for the answer; then the transport has a protocol."""

    __slots__ = ("_opening",)

    def __init__(
        self, connection: "OutgoingConnection", stream_id: int, *, opening: StreamOpening, peer: tuple[str, int]
    ) -> None:
        loop = connection.environment.loop
        super().__init__(connection, stream_id, connection.peer_window, protocol=None, peer=peer, loop=loop)
        self._opening: StreamOpening | None = opening

    def cancel(self) -> None:
        """Stop opening; nothing is called afterwards."""
        if self._opening is not None:
            self._end_opening()
            self.reset(CANCEL)

    def on_headers(self, fields: Fields) -> None:
        """Start, or report that the open was refused."""
        opening = self._opening
        if opening is None:
            super().on_headers(fields)
            return
        refusal = parse_answer(fields)
        if refusal is not None:
            self._end_opening()
            if self.has_ended_remotely:
                self.send_end()
            else:
                self.reset(CANCEL)
            self._count_refusal(refusal.status)
            opening.on_refused(_build_failure(refusal))
            return
        if self.has_ended_remotely:
            raise StreamError(PROTOCOL_ERROR, "an answer of 200 that ends the stream")
        self._opening = None
        opening.on_opened(self)

    def on_data(self, data: bytes | memoryview) -> None:
        """Pass data on; there is none before the answer. Raises StreamError."""
        if self._opening is not None:
            raise StreamError(PROTOCOL_ERROR, "data before the answer")
        super().on_data(data)

    def on_end(self) -> None:
        """Report the end; there is none before the answer. Raises StreamError."""
        if self._opening is not None:
            raise StreamError(PROTOCOL_ERROR, "the end before the answer")
        super().on_end()

    def on_reset(self, code: int) -> None:
        """Report the reset, or that the stream was not opened."""
        opening = self._opening
        if opening is None:
            super().on_reset(code)
            return
        self._end_opening()
        if code == REFUSED_STREAM:
            opening.on_unprocessed("the node accepts no more streams on this connection")
        else:
            opening.on_refused(OpenFailure("the node has reset the stream", NO_CONNECTION, is_servers_fault=False))

    def on_connection_lost(self) -> None:
        """Report the end of the connection, or that the stream was not opened."""
        opening = self._opening
        if opening is None:
            super().on_connection_lost()
        else:
            self._end_opening()
            opening.on_unprocessed("the connection to the node has ended")

    def _end_opening(self) -> None:
        self._opening = None
        self._is_closing = self._is_lost = True

    def _count_refusal(self, status: int) -> None:
        connection = self.connection
        if isinstance(connection, OutgoingConnection):
            connection.environment.counters.count_refusal(OUTGOING, status)


class OutgoingConnection(TunnelConnection):
    """A connection to another node that this one has opened."""

    __slots__ = ("_next_id", "_owner", "is_ready", "is_retired")

    def __init__(self, environment: TunnelEnvironment, owner: OutgoingOwner) -> None:
        super().__init__(environment, direct_writes=DIRECT_WRITES)
        self._owner = owner
        self._next_id = 1
        self.is_ready = False
        self.is_retired = False

    @property
    def has_room(self) -> bool:
        """Whether another stream may be opened."""
        limit = min(STREAM_LIMIT, self.peer_stream_limit)
        return self.is_ready and not self.is_retired and not self.is_ended and len(self.streams) < limit

    def begin(self, channel: Channel) -> None:
        """Announce this side over an encrypted channel."""
        self.start(channel, PREFACE)

    def open(self, delivery: Delivery, opening: StreamOpening) -> OutgoingStream:
        """Open a stream; the connection must have room. Raises ValueError if the delivery cannot be written."""
        fields = render_open(delivery)
        peer = (delivery.address, delivery.port)
        stream = OutgoingStream(self, self._next_id, opening=opening, peer=peer)
        self.streams[self._next_id] = stream
        self._next_id += 2
        counters = self.environment.counters
        counters.opens[OUTGOING] += 1
        counters.streams[OUTGOING] += 1
        if len(self.streams) == 1:
            self.received_at = self.environment.clock.now  # before, no answer was due
        stream.send_headers(fields)
        if self._next_id > LAST_STREAM_ID:
            self.retire()
        return stream

    def retire(self) -> None:
        """Open no further streams, and end after the last one."""
        if not self.is_retired and not self.is_ended:
            self.is_retired = True
            self._owner.on_retired(self)
            for stream in list(self.streams.values()):
                if isinstance(stream, OutgoingStream):
                    stream.on_retired()
            self._end_if_unused()

    def _end_if_unused(self) -> None:
        if self.is_retired and not self.streams and not self.is_ended:
            self.environment.loop.call_soon(self._end_later)

    def _end_later(self) -> None:
        if not self.streams:
            self.fail(NO_ERROR, "")

    def check(self, now: float) -> None:
        """End the connection also if it was not used for a long time."""
        super().check(now)
        if not self.streams and now - self.idle_since > IDLE_LIMIT_S:
            self.fail(NO_ERROR, "")

    # --- see TunnelConnection

    @property
    def last_stream_id(self) -> int:
        """The highest stream of the peer: receivers open none."""
        return 0

    def is_idle_stream(self, stream_id: int) -> bool:
        """Whether a stream has never been opened; the receiver cannot open any."""
        return stream_id % 2 == 0 or stream_id >= self._next_id

    def on_new_headers(self, stream_id: int, fields: Fields | None, *, has_body: bool) -> None:
        """Refuse a stream that the receiver opens."""
        raise Http2ConnectionError(PROTOCOL_ERROR, "HEADERS of a stream that was not opened")

    def on_settings(self) -> None:
        """Use the connection: the receiver has checked this node's certificate."""
        self.is_ready = True
        self._owner.on_ready(self)

    def on_goaway(self, last_stream_id: int, code: int) -> None:
        """Open no further streams; those that the receiver has not processed have failed."""
        self.retire()  # first, so that none of them is opened here again
        refused = [stream for stream_id, stream in self.streams.items() if stream_id > last_stream_id]
        for stream in refused:
            stream.forget()
            stream.on_reset(REFUSED_STREAM)

    def on_stream_gone(self, stream: TunnelStream) -> None:
        """Count the end of a stream, and make use of the room."""
        self.environment.counters.streams[OUTGOING] -= 1
        if not self.streams:
            self.idle_since = self.environment.clock.now
            self._end_if_unused()
        self._owner.on_room(self)

    def on_ended(self) -> None:
        """Leave the pool."""
        self._owner.on_connection_ended(self)

    def end(self, reason: str) -> None:
        """End every stream: the connection has ended."""
        if not self.is_ended:
            self.environment.counters.streams[OUTGOING] -= len(self.streams)
        super().end(reason)


def _build_failure(refusal: Refusal) -> OpenFailure:
    return OpenFailure(
        refusal.reason or f"the node answered {refusal.status}", refusal.status, refusal.status in _SERVERS_FAULT
    )
