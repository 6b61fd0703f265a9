"""A server's HTTP/2 connection: opens a stream for each attempt, and obeys the server's limits (RFC 9113).

Belongs to a server's pool (upstreams/connection_pool.py), which asks it for streams. Each stream serves one attempt
(upstream_side_stream.py). After a GOAWAY, streams that the server has not processed are sent again over another
connection, and the others end here. A server that is silent gets PING (server_silence.py).
"""

import asyncio
from typing import Final, Protocol, cast, final

from maesh_core.errors import UpstreamProtocolError
from maesh_core.proxy.http.answers import CLOSED_EARLY, NOT_HTTP2, SILENT
from maesh_core.proxy.http.http2.connection import CLOSE_LIMIT_S, Http2Connection
from maesh_core.proxy.http.http2.errors import Http2ConnectionError
from maesh_core.proxy.http.http2.fields import Fields
from maesh_core.proxy.http.http2.frames import (
    ENABLE_PUSH,
    INITIAL_WINDOW_SIZE,
    MAX_HEADER_LIST_SIZE,
    NO_ERROR,
    PREFACE,
    PROTOCOL_ERROR,
    STREAM_BITS,
    render_ping,
    render_settings,
)
from maesh_core.proxy.http.http2.request_fields import build_request_fields
from maesh_core.proxy.http.http2.response_fields import read_response
from maesh_core.proxy.http.http2.server_silence import SILENCE_PING, UNREAD_LIMIT_BYTES, ServerSilence
from maesh_core.proxy.http.http2.stream import STREAM_WINDOW_BYTES
from maesh_core.proxy.http.http2.upstream_side_stream import ServerLink, UpstreamSideStream
from maesh_core.proxy.http.messages.headers import Headers
from maesh_core.proxy.http.messages.request_head import RequestHead
from maesh_core.proxy.http.messages.response_head import ResponseHead
from maesh_core.proxy.http.upstreams.upstream_connection import Pool
from maesh_core.proxy.http.upstreams.upstream_stream import ResponseReceiver
from maesh_core.proxy.transport.path_counts import ConnectionPath

STREAMS_PER_CONNECTION: Final = 100
"""Concurrent streams of one connection, if the server allows as many; further ones need another connection."""
RESETS_PER_CONNECTION: Final = 100
"""Streams that the mesh resets on one connection before another one replaces it. Many clients share a connection, and
a server that counts resets (CVE-2023-44487) would end it with the requests of all: Envoy after 250 streams."""
CACHED_LISTS: Final = 64
"""Header lists of requests, and parsed responses, that a connection keeps."""
CACHED_HEAD_BYTES: Final = 2048
"""Size of the largest head that is kept."""


class StreamServer(Pool, Protocol):
    """The part of a server that its connections use (connection_pool.py)."""

    __slots__ = ()

    is_removed: bool
    multiplexed: list["MultiplexedUpstream"]
    scheme: bytes

    def remove_multiplexed(self, connection: "MultiplexedUpstream") -> None:
        """Open no more streams on a connection."""


@final
class MultiplexedUpstream(Http2Connection, ServerLink):
    """A connection to a server. `idle_since` is the time at which its last stream ended."""

    __slots__ = (
        "_answers",
        "_next_id",
        "_requests",
        "_resets",
        "_responses",
        "_silence",
        "_was_silent",
        "_window_at_last_byte",
        "idle_since",
        "is_going_away",
        "path",
        "server",
    )

    def __init__(self, server: StreamServer) -> None:
        super().__init__(server.environment)
        self.server = server
        self.is_going_away = False
        self.path: ConnectionPath | None = None
        self._answers = 0
        self._window_at_last_byte = self.send_window
        self._resets = 0
        self._silence = ServerSilence()
        self._was_silent = False
        self.idle_since = server.environment.clock.now
        self._next_id = 1
        self._requests: dict[tuple[bytes, bytes, bool], Fields] = {}
        self._responses: dict[tuple[Fields, bool, bool], ResponseHead] = {}

    # --- the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start on a connected transport."""
        if self.is_closing:  # the connect was cancelled in the meantime
            cast("asyncio.Transport", transport).abort()
            return
        self.environment.upstreams.add(self)
        self.environment.checked_upstreams.add(self)
        settings = render_settings(
            (ENABLE_PUSH, 0),
            (INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES),
            (MAX_HEADER_LIST_SIZE, self.environment.settings.head_limit),
        )
        self._start(cast("asyncio.Transport", transport), PREFACE + settings)

    def eof_received(self) -> None:
        """Open no more streams; the event loop closes the connection."""
        self._go_away()
        self.deadline = self.environment.clock.now + CLOSE_LIMIT_S

    def on_ended(self) -> None:
        """Leave the pool."""
        self._go_away()
        self.server.remove_multiplexed(self)
        self.environment.upstreams.discard(self)
        self.environment.checked_upstreams.discard(self)

    def check(self, now: float) -> None:
        """End the waits for a server that is too slow or gone; called at each tick of the clock."""
        silence, transport = self._silence, self._transport
        if transport is not None and transport.is_closing():
            if self.deadline <= now:
                transport.abort()
        elif self.is_overdue(now):
            self.fail_overdue()
        elif silence.is_pinged:
            if silence.has_timed_out(now) and not self._is_full:
                self._give_up()
        elif self.streams and silence.is_long(now):
            self._send_ping(now)

    def _send_ping(self, now: float) -> bool:
        """Ask whether the server lives, and return True; return False if it gets no PING now.

        While much output is unsent, or unread by the server, the PING would wait behind it.
        """
        if self.is_write_paused or self._window_at_last_byte - self.send_window > UNREAD_LIMIT_BYTES:
            return False
        if not self._silence.note_ping(now, answers=self._answers, requests=self._next_id):
            return False
        self.out.append(render_ping(SILENCE_PING))
        self.queue_flush()
        return True

    def _give_up(self) -> None:
        """End a dead connection; what is unsent is lost."""
        transport = self._transport
        self.is_closing = self._was_silent = True
        self._go_away()
        self._end_streams()
        if transport is not None:
            transport.abort()

    @property
    def transport(self) -> asyncio.Transport | None:
        """The open transport; None after its end."""
        return self._transport

    # --- streams

    @property
    def has_room(self) -> bool:
        """Whether another stream may be opened.

        False while the connection is ending, has not answered a PING, or has too much unsent output.
        """
        is_ending = self.is_going_away or self.is_closing or self._silence.is_pinged
        if is_ending or (self.is_write_paused and self.has_full_output):
            return False
        return len(self.streams) < min(STREAMS_PER_CONNECTION, self.peer_stream_limit)

    def open_stream(self) -> UpstreamSideStream:
        """Open a stream; it counts in the server's `opened` until its exchange has ended."""
        if not self.streams:
            self._silence.resume(self.environment.clock.now, idle_since=self.idle_since)
        stream = UpstreamSideStream(self, self, self._next_id, self.peer_window)
        self.streams[self._next_id] = stream
        self.server.opened += 1
        self._next_id += 2
        if self._next_id > STREAM_BITS:
            self._go_away()
        return stream

    def data_received(self, data: bytes) -> None:
        """Process frames; the server is alive."""
        self._silence.end(self.environment.clock.now)
        super().data_received(data)
        self._window_at_last_byte = self.send_window
        if not self.streams:
            self._silence.since = 0.0

    def describe_loss(self) -> str:
        """Describe why requests without a response have failed with the connection."""
        if self._was_silent:
            return SILENT
        return NOT_HTTP2 if self._was_failed and not self.has_settings else CLOSED_EARLY

    def note_cancel(self) -> None:
        """Find out whether a silent server lives; open no more streams if it gets no PING now."""
        now, silence = self.environment.clock.now, self._silence
        if silence.is_long(now) and not silence.is_pinged and not self._send_ping(now):
            self._go_away()

    def note_reset(self, stream_id: int) -> None:
        """Count a reset, and replace the connection after many. Frames of all closed streams are ignored."""
        self._resets += 1
        if self._resets >= RESETS_PER_CONNECTION:
            self._go_away()

    def uncount_stream(self) -> None:
        """Count one stream less."""
        self.server.opened -= 1

    def is_idle_stream(self, stream_id: int) -> bool:
        """Whether the mesh has not opened a stream yet; the server opens none."""
        return stream_id >= self._next_id or not stream_id & 1

    def describe_last_stream(self) -> int:
        """Return 0: the server opens no streams."""
        return 0

    def ignores_closed(self, stream_id: int) -> bool:
        """Ignore frames of all closed streams: the server may not know yet that its stream was reset."""
        return True

    def on_new_headers(self, stream_id: int, fields: Fields | None, *, has_body: bool) -> None:
        """Refuse a stream that the server opens. Raises Http2ConnectionError."""
        raise Http2ConnectionError(PROTOCOL_ERROR, "a server opened a stream")

    def on_stream_reset(self, now: float) -> None:
        """Do nothing: a reset ends only its own exchange."""

    def on_stream_finished(self) -> None:
        """Do nothing: resets are not limited."""

    def on_streams_changed(self) -> None:
        """Close the connection, or note since when it is idle, if no stream is left."""
        if self.streams:
            return
        if self.is_going_away or self.server.is_removed or not self.peer_stream_limit:
            self.close()
        else:
            self.idle_since = self.environment.clock.now

    def _apply_setting(self, name: int, value: int) -> None:
        if name == ENABLE_PUSH and value:  # RFC 9113 section 6.5.2
            raise Http2ConnectionError(PROTOCOL_ERROR, "a server enabled PUSH_PROMISE")
        super()._apply_setting(name, value)

    def on_settings(self) -> None:
        """Do nothing: `has_room` reads the settings."""

    def on_goaway(self, last_stream_id: int, code: int) -> None:
        """Open no more streams, and report those that the server will not process."""
        self._go_away()
        for stream in list(self.streams.values()):
            if stream.stream_id > last_stream_id and isinstance(stream, UpstreamSideStream):
                stream.on_unprocessed()
        if not self.streams:
            self.close()

    def on_ping_ack(self, payload: bytes) -> None:
        """Do nothing: any frame shows that the server lives."""

    def _go_away(self) -> None:
        if not self.is_going_away:
            self.is_going_away = True
            self.server.remove_multiplexed(self)

    def retire(self) -> None:
        """Open no more streams, and close when the last one has ended."""
        self._go_away()
        if not self.streams:
            self.close()

    def path_retired(self) -> None:
        """Retire, since the tunnel to the server's node is to be replaced; not before the first stream was opened."""
        if self in self.server.multiplexed:
            self.retire()

    def discard(self) -> None:
        """Close a connection that was never used, even if it is still connecting; see UpstreamConnection.discard."""
        self.is_closing = True
        self.environment.upstreams.discard(self)
        self.environment.checked_upstreams.discard(self)
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def close(self) -> None:
        """Close at once; streams in progress fail."""
        self._go_away()
        if self._transport is not None and not self.is_closing:
            self.fail(NO_ERROR)

    # --- used by the streams (see ServerLink)

    @property
    def is_reused(self) -> bool:
        """Whether a stream of the connection has been answered."""
        return self._answers > 0

    def build_request(self, head: RequestHead, changed: Headers | None, forwarded: bytes) -> Fields:
        """Build a request's header list, from the cache if it is there."""
        scheme = self.server.scheme
        if changed is not None:
            text = head.render_changed(changed, forwarded)
            return build_request_fields(text, scheme=scheme, takes_trailers=head.takes_trailers)
        key = (head.outgoing, forwarded, head.takes_trailers)
        fields = self._requests.get(key)
        if fields is None:
            text = head.outgoing + forwarded
            fields = build_request_fields(text, scheme=scheme, takes_trailers=head.takes_trailers)
            if len(self._requests) >= CACHED_LISTS:
                self._requests.clear()
            if len(text) <= CACHED_HEAD_BYTES:
                self._requests[key] = fields
        return fields

    def read_response(self, fields: Fields, *, is_head_request: bool, has_body: bool) -> ResponseHead:
        """Parse a response's header list, or take it from the cache. Raises UpstreamProtocolError."""
        if len(fields) > self.environment.settings.field_limit + 1:  # besides :status
            raise UpstreamProtocolError("the upstream's response has too many header fields")
        key = (fields, is_head_request, has_body)
        response = None if self.never_indexed else self._responses.get(key)
        if response is None:
            response = read_response(fields, is_head_request=is_head_request, has_body=has_body)
            if len(self._responses) >= CACHED_LISTS:
                self._responses.clear()
            if self.never_indexed:
                response.never_indexed = self.never_indexed
            elif len(response.head) <= CACHED_HEAD_BYTES:
                self._responses[key] = response
        return response

    def note_answer(self) -> None:
        """Record that the server has answered, so that it is not set aside any more."""
        self._answers += 1
        server = self.server
        if server.aside is not None:
            server.note_success()

    def note_failure(self, receiver: ResponseReceiver) -> None:
        """Set the server aside for later requests."""
        self.server.note_failure(receiver)
