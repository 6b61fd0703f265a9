"""The receiver's half of a tunnel: lets another node open connections to the pods of this one.

Takes header lists that open streams; asks the rules about each of them, connects to the pod (pod_connection.py), lets
requests be judged (served_stream.py), or answers with a refusal. A connection that is retired says so (GOAWAY), accepts
no further streams, and ends with the last one.
"""

import logging

from maesh_core.plugin_system.transports import Delivery, DeliveryVerdict, OutgoingProtocol, Refusal
from maesh_core.proxy.http.http2.errors import Http2ConnectionError, StreamError
from maesh_core.proxy.http.http2.fields import Fields
from maesh_core.proxy.http.http2.frames import (
    NO_ERROR,
    PREFACE,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    render_goaway,
    render_rst_stream,
)
from maesh_core.proxy.tunnel.connection import TunnelConnection
from maesh_core.proxy.tunnel.counters import INCOMING
from maesh_core.proxy.tunnel.limits import CLOSE_LIMIT_S, IDLE_LIMIT_S, STREAM_LIMIT
from maesh_core.proxy.tunnel.open_fields import OPENED, parse_open
from maesh_core.proxy.tunnel.output import Channel
from maesh_core.proxy.tunnel.pod_connection import PodStream
from maesh_core.proxy.tunnel.receiver import Receiver, change_count
from maesh_core.proxy.tunnel.served_stream import ServedStream
from maesh_core.proxy.tunnel.stream import TunnelStream

_logger = logging.getLogger(__name__)


class IncomingConnection(TunnelConnection):
    """A connection that another node has opened to this one."""

    __slots__ = (
        *("_announced_id", "_has_preface", "_last_id", "_receiver"),
        *("is_retired", "node", "retired_at", "valid_until"),
    )

    def __init__(self, receiver: Receiver, node: str, valid_until: float) -> None:
        super().__init__(receiver.environment, direct_writes=-1)
        self._receiver = receiver
        self.node = node
        self.valid_until = valid_until
        """When the certificate that the other node has shown on this connection ends."""
        self._last_id = 0
        self._announced_id = 0
        self._has_preface = False
        self.is_retired = False
        self.retired_at = 0.0

    def begin(self, channel: Channel) -> None:
        """Announce this side over an encrypted channel; the peer's certificate was checked."""
        change_count(self._receiver.tunnels, self.node, 1)
        self.start(channel, b"")

    def retire(self) -> None:
        """Accept no further streams, and end after the last one."""
        if not self.is_retired and not self.is_ended:
            self.is_retired = True
            self.retired_at = self.environment.clock.now
            self._announced_id = self._last_id
            self.idle_since = self.retired_at
            self.put(render_goaway(self._last_id, NO_ERROR))

    @property
    def is_expired(self) -> bool:
        """Whether the certificate of this connection has ended. A newer one of the same node changes nothing."""
        return self._receiver.now() >= self.valid_until

    def check(self, now: float) -> None:
        """End the connection also if it is not used any more, or was retired too long ago.

        The sender ends a retired connection first. Until then, streams that it has opened in the meantime are refused,
        so that it knows that they were not processed.
        """
        super().check(now)
        if self.is_ended:
            return
        timeout_s: float = self.environment.node.settings.tunnel_timeout
        if not self.streams:
            if now - self.idle_since > (CLOSE_LIMIT_S if self.is_retired else IDLE_LIMIT_S):
                self.fail(NO_ERROR, "")
        elif self.is_retired and 0 < timeout_s < now - self.retired_at:
            self.fail(NO_ERROR, "the connection was replaced")

    # --- opening streams

    def on_new_headers(self, stream_id: int, fields: Fields | None, *, has_body: bool) -> None:
        """Ask the rules whether a stream may be opened."""
        if stream_id % 2 == 0:
            raise Http2ConnectionError(PROTOCOL_ERROR, "a stream with an even number")
        self._last_id = stream_id
        try:
            if self.is_retired or len(self.streams) >= STREAM_LIMIT:
                raise StreamError(REFUSED_STREAM, "no more streams")
            if fields is None or not has_body:
                raise StreamError(PROTOCOL_ERROR, "a header list that opens no stream")
            delivery = parse_open(fields)
        except StreamError as error:
            self._refuse_open(stream_id, error.code)
            return
        stream = PodStream(self, stream_id, self.peer_window, receiver=self._receiver, delivery=delivery)
        has_room = self._receiver.has_room(self.node)
        self.streams[stream_id] = stream
        change_count(self._receiver.streams, self.node, 1)
        counters = self.environment.counters
        counters.opens[INCOMING] += 1
        counters.streams[INCOMING] += 1
        if self.is_expired:
            stream.refuse(Refusal(503, "the certificate of the node that sends has ended"))
        elif has_room:
            stream.task = self.environment.loop.create_task(self._judge(stream, delivery))
        else:
            stream.refuse(Refusal(503, "the node has too many connections"))

    def _refuse_open(self, stream_id: int, code: int) -> None:
        """Reset a stream that was never open; frames that the peer has sent for it are ignored."""
        stream = PodStream(self, stream_id, 0, receiver=self._receiver, delivery=Delivery("", 0, ""))
        self.put(render_rst_stream(stream_id, code))
        self.note_reset(stream)
        self._count_reset(stream)

    async def _judge(self, stream: PodStream, delivery: Delivery) -> None:
        verdict: DeliveryVerdict
        served: OutgoingProtocol | Refusal | None = None
        try:
            verdict = await self._receiver.rules.judge(self.node, delivery)
            if verdict is not None and not isinstance(verdict, Refusal):
                served = await self._open_delivery(delivery)
        except Exception as error:  # fail closed
            _logger.error("the rules of tunnels failed; a stream of node %s is refused: %r", self.node, error)
            verdict = Refusal(503, "the node cannot decide about the connection")
        stream.task = None
        if stream.is_gone:
            return
        if isinstance(verdict, Refusal):
            stream.refuse(verdict)
        elif isinstance(served, Refusal):
            stream.refuse(served)
        elif served is not None:
            self._serve(stream, served)
        else:
            stream.connect()

    async def _open_delivery(self, delivery: Delivery) -> OutgoingProtocol | Refusal:
        open_delivery = self._receiver.open_delivery
        if open_delivery is None:
            return Refusal(503, "the node cannot judge requests")
        return await open_delivery(delivery)

    def _serve(self, judged: PodStream, protocol: OutgoingProtocol) -> None:
        """Connect a stream to the protocol that judges its requests, in place of a pod."""
        stream_id, loop = judged.stream_id, self.environment.loop
        stream = ServedStream(self, stream_id, judged.send_window, delivery=judged.delivery, loop=loop)
        judged.is_gone = True
        self.streams[stream_id] = stream
        stream.send_headers(OPENED)
        stream.start(protocol)

    # --- see TunnelConnection

    @property
    def last_stream_id(self) -> int:
        """The highest stream of the peer that was processed."""
        return self._announced_id if self.is_retired else self._last_id

    def is_idle_stream(self, stream_id: int) -> bool:
        """Whether a stream has never been opened."""
        return stream_id > self._last_id

    def _read_preface(self, copy: bytes, size: int) -> int:
        """Check and skip the client preface (section 3.4)."""
        if self._has_preface:
            return 0
        start = copy[: len(PREFACE)] if copy else bytes(self.environment.plain_view[: min(size, len(PREFACE))])
        if not PREFACE.startswith(start):
            raise Http2ConnectionError(PROTOCOL_ERROR, "the preface is not that of HTTP/2")
        if len(start) < len(PREFACE):
            return -1
        self._has_preface = True
        return len(PREFACE)

    def on_settings(self) -> None:
        """Do nothing: the peer opens streams when it has this side's settings."""

    def on_goaway(self, last_stream_id: int, code: int) -> None:
        """End after the last stream: the peer opens no further ones."""
        if not self.is_retired:
            self.is_retired = True
            self.retired_at = self.environment.clock.now
            self._announced_id = self._last_id

    def on_stream_gone(self, stream: TunnelStream) -> None:
        """Count the end of a stream."""
        change_count(self._receiver.streams, self.node, -1)
        self.environment.counters.streams[INCOMING] -= 1
        if not self.streams:
            self.idle_since = self.environment.clock.now

    def end(self, reason: str) -> None:
        """End every stream: the connection has ended."""
        if not self.is_ended:
            change_count(self._receiver.streams, self.node, -len(self.streams))
            self.environment.counters.streams[INCOMING] -= len(self.streams)
        super().end(reason)

    def on_ended(self) -> None:
        """Count the end of the connection."""
        change_count(self._receiver.tunnels, self.node, -1)
