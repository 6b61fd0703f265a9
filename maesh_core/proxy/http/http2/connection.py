"""One HTTP/2 connection: parses frames, and passes header lists and data to its streams (RFC 9113).

Takes bytes from a transport. Subclasses (multiplexed_client.py, multiplexed_upstream.py) create streams and decide
what their messages mean. One turn of the event loop processes at most TURN_FRAMES frames; the rest waits until other
connections have had their turn. All frames of a turn are written at once.

A peer owes the rest of a frame or header block that has arrived in part, and the acknowledgement of our settings.
`owed_deadline` is the time at which the first of them is due; subclasses compare it with the clock.

control_frames.py handles the frames that carry no message, and connection_output.py writes. A connection error ends the
connection with GOAWAY.
"""

import asyncio
from abc import abstractmethod
from typing import Final

from maesh_core.errors import CompressionError, ListTooLargeError
from maesh_core.proxy.http.environment import Environment
from maesh_core.proxy.http.http2.control_frames import ControlFrames
from maesh_core.proxy.http.http2.errors import Http2ConnectionError, StreamError
from maesh_core.proxy.http.http2.fields import Fields
from maesh_core.proxy.http.http2.frame_payloads import cut_padding
from maesh_core.proxy.http.http2.frames import (
    ACK,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    DEFAULT_WINDOW_BYTES,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_HEADER_BYTES,
    FRAME_LIMIT_BYTES,
    FRAME_SIZE_ERROR,
    HAS_PRIORITY,
    HEADERS,
    NO_ERROR,
    PADDED,
    PROTOCOL_ERROR,
    SETTINGS,
    SETTINGS_TIMEOUT,
    STREAM_BITS,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    render_goaway,
    render_window_update,
)
from maesh_core.proxy.http.http2.hpack.decoder import Decoder
from maesh_core.proxy.http.http2.hpack.tables import NO_NAMES
from maesh_core.proxy.http.http2.stream import Http2Stream
from maesh_core.proxy.http.transports import limit_write_buffer

CONNECTION_WINDOW_BYTES: Final = 1 << 30
"""Bytes of a connection that a peer may send before they are credited. The windows of the streams bound what is
buffered; a smaller window of the connection would let one stream that is not read stop the others."""
_CONNECTION_CREDIT_BYTES: Final = 1 << 20
TURN_FRAMES: Final = 256
"""Frames of one connection that are processed in one turn of the event loop; a HEADERS frame counts as HEADERS_COST."""
HEADERS_COST: Final = 8
OUTPUT_LIMIT_BYTES: Final = 262144
"""Unsent bytes of a connection above which it is not read. Data waits in the streams above WRITE_HIGH_BYTES, so these
are frames that no window bounds: header lists, resets, and the answers to PING and SETTINGS."""
SETTINGS_ACK_LIMIT_S: Final = 30.0
"""Seconds in which a peer must acknowledge our settings (RFC 9113 section 6.5.3)."""
CLOSE_LIMIT_S: Final = 5.0
"""Seconds in which a server must read the last frames of a connection that ends; TCP would wait for many minutes."""

_NEVER: Final = float("inf")


class Http2Connection(ControlFrames):
    """The frames of one connection."""

    __slots__ = (
        "_ack_deadline",
        "_block",
        "_block_flags",
        "_block_stream_id",
        "_buffer",
        "_decoder",
        "_is_full",
        "_is_turn_queued",
        "_owed",
        "_receive_window",
        "_rest_deadline",
        "_wanted",
        "_was_failed",
        "is_closing",
        "never_indexed",
        "owed_deadline",
    )

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._decoder = Decoder(max_list_bytes=environment.settings.head_limit)
        self._buffer = bytearray()
        self._wanted = 0
        self._block: bytearray | None = None
        self._block_flags = 0
        self._block_stream_id = 0
        self._rest_deadline = _NEVER
        self._ack_deadline = _NEVER
        self.owed_deadline = _NEVER
        self._is_full = False
        self._was_failed = False
        self._is_turn_queued = False
        self._owed = 0
        self._receive_window = CONNECTION_WINDOW_BYTES
        self.is_closing = False
        self.never_indexed = NO_NAMES

    # --- implemented by subclasses

    @abstractmethod
    def on_new_headers(self, stream_id: int, fields: Fields | None, *, has_body: bool) -> None:
        """Handle a header list of a stream that is not open; None means that it was too large.

        Raises Http2ConnectionError.
        """

    @abstractmethod
    def ignores_closed(self, stream_id: int) -> bool:
        """Whether frames of a closed stream are ignored: the peer may not know yet that it was reset."""

    @abstractmethod
    def on_ended(self) -> None:
        """Release what the connection holds: its transport has ended."""

    @abstractmethod
    def describe_last_stream(self) -> int:
        """Return the highest stream of the peer that was processed."""

    # --- called by the event loop

    def _start(self, transport: asyncio.Transport, opening: bytes) -> None:
        self._transport = transport
        limit_write_buffer(transport)
        self._ack_deadline = self.environment.clock.now + SETTINGS_ACK_LIMIT_S
        self._update_owed()
        self.out.append(opening + render_window_update(0, CONNECTION_WINDOW_BYTES - DEFAULT_WINDOW_BYTES))
        self.queue_flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """End every stream."""
        self._transport = None
        self.is_closing = True
        self._end_streams()
        self.on_ended()

    def data_received(self, data: bytes) -> None:
        """Process the frames in `data`."""
        if self.is_closing:
            return
        if self._buffer or self._is_turn_queued:
            self._buffer += data
            if len(self._buffer) < self._wanted or self._is_turn_queued:
                return
            data = self._take_buffer()
        self._read_frames(data)

    # --- what the peer owes

    def _await_rest(self, kind: int) -> None:
        """Limit the time in which the rest of a frame or header block must arrive."""
        settings = self.environment.settings
        limit_s = settings.body_timeout if kind == DATA else settings.head_timeout
        self._rest_deadline = self.environment.clock.now + limit_s
        self._update_owed()

    def _update_owed(self) -> None:
        self.owed_deadline = min(self._rest_deadline, self._ack_deadline)
        self.deadline = min(self.deadline, self.owed_deadline)

    def on_settings_ack(self) -> None:
        """Expect no further acknowledgement."""
        self._ack_deadline = _NEVER
        self._update_owed()

    def is_overdue(self, now: float) -> bool:
        """Whether the peer has not sent in time what it owes, although the connection is read."""
        return self.owed_deadline <= now and not self._is_full

    def fail_overdue(self) -> None:
        """End the connection of a peer that has not sent in time what it owes."""
        if self._ack_deadline <= self._rest_deadline:
            self.fail(SETTINGS_TIMEOUT, "the settings are not acknowledged in time")
        elif self._block is not None:
            self.fail(ENHANCE_YOUR_CALM, "a header block is not finished in time")
        else:
            self.fail(ENHANCE_YOUR_CALM, "a frame is not finished in time")

    # --- reading frames

    def _read_frames(self, data: bytes) -> None:
        at, size, left = 0, len(data), TURN_FRAMES
        try:
            while size - at >= FRAME_HEADER_BYTES:
                length = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
                if length > FRAME_LIMIT_BYTES:
                    raise Http2ConnectionError(FRAME_SIZE_ERROR, "a frame is larger than the limit")
                start = at + FRAME_HEADER_BYTES
                end = start + length
                if end > size:
                    break
                if left <= 0 or self._is_turn_queued:
                    self._queue_turn()
                    break
                kind = data[at + 3]
                stream_id = (data[at + 5] & 0x7F) << 24 | data[at + 6] << 16 | data[at + 7] << 8 | data[at + 8]
                left -= self._read_frame(kind, data[at + 4], stream_id, data, start, end)
                at = end
                if self._transport is None or self.is_closing:
                    return
        except Http2ConnectionError as error:
            self.fail(error.code, str(error))
            return
        if at < size:
            self._buffer += data[at:]
            self._wanted = self._compute_wanted()
            if self._block is None and not self._is_turn_queued:
                self._await_rest(data[at + 3] if size - at >= FRAME_HEADER_BYTES else HEADERS)
        if self._blocked:
            self._pump()
        if self.out:
            self._flush()
        if self.is_write_paused:
            self._stop_reading_if_full()

    def _take_buffer(self) -> bytes:
        """Return and forget the buffered bytes: the first frame is complete."""
        data = bytes(self._buffer)
        self._buffer.clear()
        if self._block is None:
            self._rest_deadline = _NEVER
            self._update_owed()
        return data

    def _compute_wanted(self) -> int:
        """Return the number of bytes with which the buffered frame is complete."""
        buffer = self._buffer
        if len(buffer) < FRAME_HEADER_BYTES:
            return FRAME_HEADER_BYTES
        return FRAME_HEADER_BYTES + (buffer[0] << 16 | buffer[1] << 8 | buffer[2])

    def _queue_turn(self) -> None:
        if not self._is_turn_queued and not self.is_closing and self._transport is not None:
            self._is_turn_queued = True
            self._transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._take_turn)

    def rest(self, seconds: float) -> None:
        """Read no further frame for this time; what is under way goes on being sent."""
        if not self._is_turn_queued and not self.is_closing and self._transport is not None:
            self._is_turn_queued = True
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(seconds, self._take_turn)

    def _take_turn(self) -> None:
        self._is_turn_queued = False
        if self._transport is None or self.is_closing or self._is_full:
            return
        self._read_frames(self._take_buffer())
        self._resume_reading()

    def _resume_reading(self) -> None:
        """Read again, unless another turn is due first."""
        if not self._is_turn_queued and not self._is_full and not self.is_closing and self._transport is not None:
            self._transport.resume_reading()

    def _stop_reading_if_full(self) -> None:
        """Read no more frames of a peer that does not read the answers to them."""
        transport = self._transport
        if transport is not None and not self._is_full and not self.is_closing and self.has_full_output:
            self._is_full = True
            transport.pause_reading()

    @property
    def has_full_output(self) -> bool:
        """Whether the transport has more unsent bytes than OUTPUT_LIMIT_BYTES."""
        return self._transport is not None and self._transport.get_write_buffer_size() > OUTPUT_LIMIT_BYTES

    def resume_writing(self) -> None:
        """Send data of the streams that wait, and read again."""
        super().resume_writing()
        if self._is_full:
            self._is_full = False
            if self._buffer:
                self._queue_turn()
            else:
                self._resume_reading()

    def _read_frame(self, kind: int, flags: int, stream_id: int, data: bytes, start: int, end: int) -> int:
        """Process one frame; return its cost. Raises Http2ConnectionError."""
        if self._block is not None and (kind != CONTINUATION or stream_id != self._block_stream_id):
            raise Http2ConnectionError(PROTOCOL_ERROR, "a header block is not followed by its CONTINUATION")
        if not self.has_settings and (kind != SETTINGS or flags & ACK):
            raise Http2ConnectionError(PROTOCOL_ERROR, "the first frame is not SETTINGS")
        if kind == DATA:
            self._read_data(flags, stream_id, data, start, end)
            return 1
        if kind == HEADERS:
            self._read_headers(flags, stream_id, data, start, end)
            return HEADERS_COST
        if kind == WINDOW_UPDATE:
            self._read_window_update(stream_id, data, start, end)
            return 1
        self._count_control()
        if kind == CONTINUATION:
            self._read_continuation(flags, data, start, end)
        else:
            self._read_control_frame(kind, flags, stream_id, data, start, end)
        return 1

    # --- DATA

    def _read_data(self, flags: int, stream_id: int, data: bytes, start: int, end: int) -> None:
        flow_bytes = end - start
        self._owed += flow_bytes
        self._receive_window -= flow_bytes
        if self._receive_window < 0:
            raise Http2ConnectionError(FLOW_CONTROL_ERROR, "the connection's window was exceeded")
        if self._owed >= _CONNECTION_CREDIT_BYTES:
            self.out.append(render_window_update(0, self._owed))
            self._receive_window += self._owed
            self._owed = 0
        if flags & PADDED:
            start, end = cut_padding(data, start, end)
        stream = self.streams.get(stream_id)
        is_end = bool(flags & END_STREAM)
        if start == end and (not is_end or stream is None):
            self._count_control()
        if stream is None or stream.has_ended_remotely:
            self._handle_closed(stream, stream_id)
            return
        stream.has_ended_remotely = is_end
        try:
            stream.receive_data(data[start:end], flow_bytes)
        except StreamError as error:
            self._fail_stream(stream, error.code)
            return
        if is_end and stream.is_closed_locally:
            self.forget_stream(stream)

    def _handle_closed(self, stream: Http2Stream | None, stream_id: int) -> None:
        """Handle DATA or HEADERS of a stream on which the peer cannot send (section 5.1)."""
        if stream_id == 0 or (stream is None and self.is_idle_stream(stream_id)):
            raise Http2ConnectionError(PROTOCOL_ERROR, "a frame of an idle stream")
        if stream is None and self.ignores_closed(stream_id):
            return
        raise Http2ConnectionError(STREAM_CLOSED, "a frame of a closed stream")

    # --- HEADERS, CONTINUATION, PRIORITY

    def _read_headers(self, flags: int, stream_id: int, data: bytes, start: int, end: int) -> None:
        if stream_id == 0:
            raise Http2ConnectionError(PROTOCOL_ERROR, "HEADERS on stream 0")
        if flags & PADDED:
            start, end = cut_padding(data, start, end)
        if flags & HAS_PRIORITY:
            if end - start < 5:
                raise Http2ConnectionError(FRAME_SIZE_ERROR, "HEADERS without its priority")
            if int.from_bytes(data[start : start + 4], "big") & STREAM_BITS == stream_id:
                raise Http2ConnectionError(PROTOCOL_ERROR, "a stream that depends on itself")
            start += 5
        if flags & END_HEADERS:
            self._read_block(flags, stream_id, data[start:end])
            return
        self._count_control()
        self._block = bytearray(data[start:end])
        self._block_flags, self._block_stream_id = flags, stream_id
        self._await_rest(HEADERS)

    def _read_continuation(self, flags: int, data: bytes, start: int, end: int) -> None:
        block = self._block
        if block is None:
            raise Http2ConnectionError(PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        block += data[start:end]
        if len(block) > self.environment.settings.head_limit:
            raise Http2ConnectionError(ENHANCE_YOUR_CALM, "a header block is too large")
        if flags & END_HEADERS:
            self._block = None
            self._rest_deadline = _NEVER
            self._update_owed()
            self._read_block(self._block_flags, self._block_stream_id, bytes(block))

    def _read_block(self, flags: int, stream_id: int, block: bytes) -> None:
        fields: Fields | None
        try:
            fields = self._decoder.decode(block)
        except CompressionError as error:
            raise Http2ConnectionError(COMPRESSION_ERROR, str(error)) from error
        except ListTooLargeError:
            fields = None
        self.never_indexed = self._decoder.never_indexed
        stream = self.streams.get(stream_id)
        is_end = bool(flags & END_STREAM)
        if stream is None and self.is_idle_stream(stream_id):
            self.on_new_headers(stream_id, fields, has_body=not is_end)
            return
        if stream is None or stream.has_ended_remotely:
            self._handle_closed(stream, stream_id)
            self._count_control()
            return
        stream.has_ended_remotely = is_end
        try:
            if fields is None:
                raise StreamError(PROTOCOL_ERROR, "a header list is too large")
            stream.on_headers(fields)
        except StreamError as error:
            self._fail_stream(stream, error.code)
            return
        if is_end and stream.is_closed_locally:
            self.forget_stream(stream)

    # --- ends

    def fail(self, code: int, text: str = "") -> None:
        """End the connection with GOAWAY because of an error, and say why."""
        transport = self._transport
        if transport is None or self.is_closing:
            return
        self.is_closing = True
        self._was_failed = code != NO_ERROR
        self.out.append(render_goaway(self.describe_last_stream(), code, text))
        self._flush()
        self._end_streams()
        self.deadline = self.environment.clock.now + CLOSE_LIMIT_S
        transport.close()

    def _end_streams(self) -> None:
        for stream in list(self.streams.values()):
            stream.is_closed_locally = stream.has_ended_remotely = True
            stream.on_connection_lost()
        self.streams.clear()
        self._blocked.clear()
