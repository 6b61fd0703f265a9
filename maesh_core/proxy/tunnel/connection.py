"""One connection of a tunnel: parses frames where they were decrypted, and passes data to the streams (RFC 9113).

Takes bytes in the environment's buffer `plain`; `begin_read` puts back what was kept of the last read, and
`process(end)` handles all complete frames up to `end` and keeps the rest. One call handles at most TURN_FRAMES frames;
the others wait until other connections have had their turn. Does no I/O: outgoing.py and incoming.py are the two roles,
and link.py connects them with a socket.
"""

import logging
from abc import abstractmethod
from typing import Final

from maesh_core.errors import CompressionError, ListTooLargeError
from maesh_core.proxy.http.http2.errors import Http2ConnectionError, StreamError
from maesh_core.proxy.http.http2.fields import Fields
from maesh_core.proxy.http.http2.frame_payloads import cut_padding
from maesh_core.proxy.http.http2.frames import (
    ACK,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_HEADER_BYTES,
    FRAME_SIZE_ERROR,
    HAS_PRIORITY,
    HEADERS,
    INTERNAL_ERROR,
    NO_ERROR,
    PADDED,
    PROTOCOL_ERROR,
    SETTINGS,
    SETTINGS_TIMEOUT,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    render_goaway,
    render_ping,
    render_window_update,
)
from maesh_core.proxy.http.http2.hpack.decoder import Decoder
from maesh_core.proxy.tunnel.control_frames import ANNOUNCEMENT, ControlFrames
from maesh_core.proxy.tunnel.environment import TunnelEnvironment
from maesh_core.proxy.tunnel.limits import (
    ACK_LIMIT_S,
    CONNECTION_CREDIT_BYTES,
    CONNECTION_WINDOW_BYTES,
    FRAME_LIMIT_BYTES,
    HEADER_LIST_BYTES,
    OUTPUT_LIMIT_BYTES,
    PONG_LIMIT_S,
    REST_LIMIT_S,
    SILENCE_LIMIT_S,
    TURN_FRAMES,
)
from maesh_core.proxy.tunnel.output import Channel

COPIED_READ_BYTES: Final = 4096
"""Smaller reads are parsed from a copy: indexing and slicing `bytes` is several times faster than a shared buffer."""
_PING: Final = b"maesh\0\0\0"

_logger = logging.getLogger(__name__)


class TunnelConnection(ControlFrames):
    """The frames of one connection, in either role. `ended_by` says why it ended."""

    __slots__ = (
        "_block",
        "_block_flags",
        "_block_stream_id",
        "_decoder",
        "_is_pinged",
        "_kept",
        "_owed",
        "_receive_window",
        "_started_at",
        "_waits_since",
        "ended_by",
        "has_failed",
        "idle_since",
        "received_at",
    )

    def __init__(self, environment: TunnelEnvironment, *, direct_writes: int) -> None:
        super().__init__(environment, direct_writes=direct_writes)
        now = environment.clock.now
        self._decoder = Decoder(max_list_bytes=HEADER_LIST_BYTES)
        self._decoder.set_max_table_size(0)
        self._kept = b""
        self._block: bytearray | None = None
        self._block_flags = 0
        self._block_stream_id = 0
        self._owed = 0
        self._receive_window = CONNECTION_WINDOW_BYTES
        self._is_pinged = False
        self._started_at = now
        self._waits_since = -1.0
        """Since when a frame or header block has been incomplete; negative if none is."""
        self.ended_by = ""
        self.has_failed = False
        """Whether this side has ended it because of an error."""
        self.received_at = now
        self.idle_since = now

    # --- implemented by subclasses

    @abstractmethod
    def on_new_headers(self, stream_id: int, fields: Fields | None, *, has_body: bool) -> None:
        """Handle a header list of a stream that is not open; None means that it was too large.

        Raises Http2ConnectionError.
        """

    @abstractmethod
    def on_ended(self) -> None:
        """Release what the connection holds; every stream has ended."""

    @property
    @abstractmethod
    def last_stream_id(self) -> int:
        """The highest stream of the peer that was processed."""

    # --- the life of a connection

    def start(self, channel: Channel, opening: bytes) -> None:
        """Announce this side's settings over a channel; `opening` comes before them."""
        self.channel = channel
        self._started_at = self.received_at = self.idle_since = self.environment.clock.now
        self.put(opening + ANNOUNCEMENT)

    def fail(self, code: int, text: str) -> None:
        """End the connection with GOAWAY because of an error, or with NO_ERROR."""
        if self.is_ended:
            return
        channel = self.channel
        self.has_failed = code != NO_ERROR
        self.put(render_goaway(self.last_stream_id, code, text))
        self.flush()
        self.end(text)
        if channel is not None:
            channel.close()

    def end(self, reason: str) -> None:
        """End every stream: the connection has ended."""
        if self.is_ended:
            return
        self.is_ended = True
        self.ended_by = reason
        self.channel = None
        streams = list(self.streams.values())
        for stream in streams:
            stream.is_gone = True
        self.streams.clear()
        self._blocked.clear()
        self._out.clear()
        self._kept = b""
        for stream in streams:
            stream.on_connection_lost()
        self.on_ended()

    def check(self, now: float) -> None:
        """End the connection if the peer is silent, or does not send in time what it owes; called at each tick."""
        if self.is_ended or self.channel is None:
            return
        silence_s = now - self.received_at
        if 0 <= self._waits_since < now - REST_LIMIT_S:
            self.fail(ENHANCE_YOUR_CALM, "a frame is not finished in time")
        elif not self.is_acknowledged and now - self._started_at > ACK_LIMIT_S:
            self.fail(SETTINGS_TIMEOUT, "the settings are not acknowledged in time")
        elif not self.streams or silence_s < SILENCE_LIMIT_S:
            self._is_pinged = False
        elif not self._is_pinged:
            self._is_pinged = True
            self.put(render_ping(_PING))
        elif silence_s >= SILENCE_LIMIT_S + PONG_LIMIT_S:
            channel = self.channel
            self.end("the peer is silent")
            channel.abort()

    def has_full_output(self) -> bool:
        """Whether the peer does not read, so that nothing more is read from it."""
        channel = self.channel
        return channel is not None and channel.unsent_bytes + self._out_bytes > OUTPUT_LIMIT_BYTES

    def has_kept_frames(self) -> bool:
        """Whether complete frames wait for the next turn."""
        kept = self._kept
        if len(kept) < FRAME_HEADER_BYTES:
            return False
        return len(kept) >= FRAME_HEADER_BYTES + (kept[0] << 16 | kept[1] << 8 | kept[2])

    # --- reading frames

    def begin_read(self) -> int:
        """Put back what was kept of the last read; return where new bytes go in the environment's `plain`."""
        kept = self._kept
        size = len(kept)
        if size:
            self.environment.plain[:size] = kept
        return size

    def process(self, end: int) -> None:
        """Handle the complete frames up to `end` in the environment's `plain`."""
        self._process(bytes(self.environment.plain_view[:end]) if end <= COPIED_READ_BYTES else b"", end)

    def process_bytes(self, data: bytes) -> None:
        """Handle the complete frames in what was kept and in these bytes, which are at least one."""
        whole = self._kept + data if self._kept else data
        self._process(whole, len(whole))

    def _process(self, copy: bytes, end: int) -> None:
        """Handle frames in `copy`, or if that is empty, in the environment's `plain`; keep what is incomplete."""
        try:
            at = self._read_frames(copy, end)
        except Http2ConnectionError as error:
            self.fail(error.code, str(error))
            return
        except Exception:  # nothing is known about the next frame any more
            _logger.exception("processing the frames of a tunnel failed")
            self.fail(INTERNAL_ERROR, "an internal error")
            return
        if self.is_ended:
            return
        if at < end:
            self._kept = copy[at:end] if copy else bytes(self.environment.plain_view[at:end])
            if at or self._waits_since < 0:
                self._waits_since = self.environment.clock.now
        else:
            self._kept = b""
            self._waits_since = -1.0 if self._block is None else self._waits_since

    def _read_frames(self, copy: bytes, size: int) -> int:
        """Handle frames; return where the rest starts."""
        view = self.environment.plain_view
        at, left = self._read_preface(copy, size), TURN_FRAMES
        if at < 0:
            return 0
        while size - at >= FRAME_HEADER_BYTES and not self.is_ended:
            start = at + FRAME_HEADER_BYTES
            head, first = (copy, at) if copy else (bytes(view[at:start]), 0)
            length = head[first] << 16 | head[first + 1] << 8 | head[first + 2]
            if length > FRAME_LIMIT_BYTES:
                raise Http2ConnectionError(FRAME_SIZE_ERROR, "a frame is larger than the limit")
            end = start + length
            if end > size or left <= 0:
                break
            kind, flags = head[first + 3], head[first + 4]
            stream_id = (head[first + 5] & 0x7F) << 24 | head[first + 6] << 16 | head[first + 7] << 8 | head[first + 8]
            left -= 1
            at = end
            if self._block is not None and (kind != CONTINUATION or stream_id != self._block_stream_id):
                raise Http2ConnectionError(PROTOCOL_ERROR, "a header block is not followed by its CONTINUATION")
            if kind == DATA and self.has_settings:
                self._read_data(flags, stream_id, copy[start:end] if copy else view[start:end])
            elif not self.has_settings and (kind != SETTINGS or flags & ACK):
                raise Http2ConnectionError(PROTOCOL_ERROR, "the first frame is not SETTINGS")
            elif kind == WINDOW_UPDATE:
                self._read_window_update(stream_id, copy[start:end] if copy else bytes(view[start:end]))
            else:
                self._read_other(kind, flags, stream_id, copy[start:end] if copy else bytes(view[start:end]))
        return at

    def _read_other(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind == HEADERS:
            self._read_headers(flags, stream_id, payload)
        elif kind == CONTINUATION:
            self._read_continuation(flags, payload)
        else:
            self._read_control_frame(kind, flags, stream_id, payload)

    def _read_preface(self, copy: bytes, size: int) -> int:
        """Skip what comes before the first frame; return where frames start, or -1 if that has not arrived yet.

        The bytes are in `copy`, or if that is empty, in the environment's `plain`.
        """
        return 0

    # --- DATA

    def _read_data(self, flags: int, stream_id: int, data: bytes | memoryview) -> None:
        flow_bytes = len(data)
        self._receive_window -= flow_bytes
        if self._receive_window < 0:
            raise Http2ConnectionError(FLOW_CONTROL_ERROR, "the connection's window was exceeded")
        self._owed += flow_bytes
        if self._owed >= CONNECTION_CREDIT_BYTES:
            self.put(render_window_update(0, self._owed))
            self._receive_window += self._owed
            self._owed = 0
        if flags & PADDED:
            start, end = cut_padding(data, 0, flow_bytes)
            data = data[start:end]
        is_end = bool(flags & END_STREAM)
        if not data and not is_end:
            self._count_control()
        stream = self.streams.get(stream_id)
        if stream is None:
            self._ignore_data(stream_id, flow_bytes, is_end=is_end)
            return
        if stream.has_ended_remotely:
            raise Http2ConnectionError(STREAM_CLOSED, "a frame of a closed stream")
        try:
            stream.receive(data, flow_bytes, is_end=is_end)
        except StreamError as error:
            self._fail_stream(stream, error.code)

    def _ignore_data(self, stream_id: int, flow_bytes: int, *, is_end: bool) -> None:
        """Ignore data of a stream that this side has reset: the peer may not have known."""
        if stream_id == 0 or self.is_idle_stream(stream_id):
            raise Http2ConnectionError(PROTOCOL_ERROR, "a frame of an idle stream")
        left = self._reset_windows.get(stream_id, -1) - flow_bytes
        if left < 0:
            raise Http2ConnectionError(STREAM_CLOSED, "a frame of a closed stream")
        if is_end:
            del self._reset_windows[stream_id]
        else:
            self._reset_windows[stream_id] = left

    # --- HEADERS, CONTINUATION

    def _read_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id == 0:
            raise Http2ConnectionError(PROTOCOL_ERROR, "HEADERS on stream 0")
        start, end = 0, len(payload)
        if flags & PADDED:
            start, end = cut_padding(payload, start, end)
        if flags & HAS_PRIORITY:
            if end - start < 5:
                raise Http2ConnectionError(FRAME_SIZE_ERROR, "HEADERS without its priority")
            start += 5
        if end - start > HEADER_LIST_BYTES:
            raise Http2ConnectionError(ENHANCE_YOUR_CALM, "a header block is too large")
        if flags & END_HEADERS:
            self._read_block(flags, stream_id, payload[start:end])
            return
        self._count_control()
        self._block = bytearray(payload[start:end])
        self._block_flags, self._block_stream_id = flags, stream_id
        self._waits_since = self.environment.clock.now

    def _read_continuation(self, flags: int, payload: bytes) -> None:
        self._count_control()
        block = self._block
        if block is None:
            raise Http2ConnectionError(PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        block += payload
        if len(block) > HEADER_LIST_BYTES:
            raise Http2ConnectionError(ENHANCE_YOUR_CALM, "a header block is too large")
        if flags & END_HEADERS:
            self._block = None
            self._read_block(self._block_flags, self._block_stream_id, bytes(block))

    def _read_block(self, flags: int, stream_id: int, block: bytes) -> None:
        fields: Fields | None
        try:
            fields = self._decoder.decode(block)
        except CompressionError as failure:
            raise Http2ConnectionError(COMPRESSION_ERROR, str(failure)) from failure
        except ListTooLargeError:
            fields = None
        is_end = bool(flags & END_STREAM)
        stream = self.streams.get(stream_id)
        if stream is None:
            if self.is_idle_stream(stream_id):
                self.on_new_headers(stream_id, fields, has_body=not is_end)
            elif stream_id not in self._reset_windows:
                raise Http2ConnectionError(STREAM_CLOSED, "a frame of a closed stream")
            else:
                self._count_control()
            return
        if stream.has_ended_remotely:
            raise Http2ConnectionError(STREAM_CLOSED, "a frame of a closed stream")
        try:
            if fields is None:
                raise StreamError(PROTOCOL_ERROR, "a header list is too large")
            stream.has_ended_remotely = is_end
            stream.on_headers(fields)
            stream.close_if_ended()
        except StreamError as error:
            self._fail_stream(stream, error.code)
