"""One stream: its state, its windows, and the data that cannot be sent yet (RFC 9113 sections 5.1 and 5.2).

Takes data to send, and emits frames through its connection (connection.py) as far as the windows allow. The rest stays
in the stream, so a peer that does not read one stream delays no other. Received data is credited to the peer's window
when its reader is ready for more. Subclasses connect a stream to an exchange.
"""

from abc import abstractmethod
from collections import deque
from typing import Final, Protocol

from maesh_core.proxy.http.http2.errors import StreamError
from maesh_core.proxy.http.http2.fields import Fields
from maesh_core.proxy.http.http2.frames import (
    CANCEL,
    DATA,
    END_STREAM,
    FLOW_CONTROL_ERROR,
    WINDOW_LIMIT_BYTES,
    add_end_stream,
    render_frame_header,
    render_headers,
    render_rst_stream,
    render_window_update,
)
from maesh_core.proxy.http.http2.hpack.tables import NO_NAMES
from maesh_core.proxy.http.transports import WRITE_HIGH_BYTES, WRITE_LOW_BYTES

STREAM_WINDOW_BYTES: Final = 131072
"""Bytes of a stream that a peer may send before they are credited: what one exchange may buffer in one direction."""
JOINED_BYTES: Final = 4096
"""Smaller pieces of waiting data are joined to pieces of about this size."""
_CREDIT_BYTES: Final = STREAM_WINDOW_BYTES // 2
"""Bytes after which they are credited, so that the peer seldom waits."""


class FrameSink(Protocol):
    """The part of a connection that its streams use."""

    __slots__ = ("deadline", "flushes", "frame_limit", "is_write_paused", "out", "send_window")

    deadline: float
    """The clock's time at which a wait of the connection or of a stream may end; a stream that waits less lowers it."""
    out: list[bytes]
    """Rendered frames: each frame's header, then its payload if it has one."""
    flushes: int
    """How often `out` was written and emptied."""
    send_window: int
    frame_limit: int
    is_write_paused: bool

    def queue_flush(self) -> None:
        """Write `out` at the end of this turn."""

    def count_output(self, size: int) -> None:
        """Record that data was added to `out`; write it if there is much."""

    def encode(self, fields: Fields, never_indexed: frozenset[bytes]) -> bytes:
        """Compress a header list; the frames must be added to `out` before the next call.

        Fields with the names in `never_indexed` must not be compressed by later hops either (RFC 7541 section 7.1.3).
        """

    def add_blocked(self, stream: "Http2Stream") -> None:
        """Call the stream's `pump` when the connection can send more."""

    def forget_stream(self, stream: "Http2Stream") -> None:
        """Remove a stream that is closed on both sides."""

    def note_reset(self, stream_id: int) -> None:
        """Record that a stream was reset by this side."""

    def note_finished(self) -> None:
        """Record that an exchange has ended with its response."""

    def rest(self, seconds: float) -> None:
        """Read no further frame for this time."""


class Http2Stream:
    """The connection's side of a stream. `reset_code` is the code of the peer's RST_STREAM, CANCEL without one."""

    __slots__ = (
        "_end_trailers",
        "_is_ending",
        "_owed",
        "_pending",
        "_tail_at",
        "_tail_flush",
        "connection",
        "has_ended_remotely",
        "is_closed_locally",
        "is_credit_held",
        "is_write_paused",
        "receive_window",
        "reset_code",
        "send_window",
        "stream_id",
        "unsent_bytes",
        "was_reset",
    )

    def __init__(self, connection: FrameSink, stream_id: int, send_window: int) -> None:
        self.connection = connection
        self.stream_id = stream_id
        self.send_window = send_window
        self.receive_window = STREAM_WINDOW_BYTES
        self.unsent_bytes = 0
        self.is_write_paused = False
        self.is_credit_held = False
        self.has_ended_remotely = False
        self.is_closed_locally = False
        self.was_reset = False
        self.reset_code = CANCEL
        self._pending: deque[bytes | bytearray] | None = None
        self._is_ending = False
        self._end_trailers: Fields = ()
        self._owed = 0
        self._tail_at = -1
        self._tail_flush = -1

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.stream_id} unsent={self.unsent_bytes} window={self.send_window}"
            f" closed={self.is_closed_locally}/{self.has_ended_remotely}>"
        )

    # --- implemented by subclasses

    @abstractmethod
    def on_write_paused(self) -> None:
        """Pause the source of the data: the peer reads more slowly."""

    @abstractmethod
    def on_write_resumed(self) -> None:
        """Resume the source of the data."""

    @abstractmethod
    def on_end_sent(self) -> None:
        """Continue after this side has ended the stream and the peer has not yet."""

    @abstractmethod
    def on_headers(self, fields: Fields) -> None:
        """Handle a header list after the first one. Raises StreamError. `has_ended_remotely` is already set."""

    @abstractmethod
    def on_data(self, data: bytes) -> None:
        """Handle data. Raises StreamError. `has_ended_remotely` is already set."""

    @abstractmethod
    def on_reset(self, code: int) -> None:
        """Handle the peer's RST_STREAM, or the error `code` for which this side resets the stream."""

    @abstractmethod
    def on_connection_lost(self) -> None:
        """Handle the end of the connection."""

    # --- sending

    def send_headers(self, fields: Fields, never_indexed: frozenset[bytes] = NO_NAMES) -> None:
        """Send a header list; the next data or end follows it."""
        if self.is_closed_locally:
            return
        connection = self.connection
        block = connection.encode(fields, never_indexed)
        self._tail_at, self._tail_flush = len(connection.out), connection.flushes
        connection.out.extend(render_headers(self.stream_id, block, connection.frame_limit))
        connection.queue_flush()

    def send_data(self, data: bytes) -> None:
        """Send data, or keep what the windows do not allow."""
        if not data or self.is_closed_locally or self._is_ending:
            return
        connection = self.connection
        if not self.unsent_bytes and not connection.is_write_paused:
            sent = self._emit(data)
            if sent == len(data):
                return
            if sent:
                data = data[sent:]
        self._keep(data)
        self.unsent_bytes += len(data)
        connection.add_blocked(self)
        if self.unsent_bytes > WRITE_HIGH_BYTES and not self.is_write_paused:
            self.is_write_paused = True
            self.on_write_paused()

    def _keep(self, data: bytes) -> None:
        """Keep data for later; small pieces are joined, since each object uses more memory than its bytes."""
        pending = self._pending
        if pending is None:
            pending = self._pending = deque()
        if len(data) >= JOINED_BYTES:
            pending.append(data)
            return
        last = pending[-1] if pending else b""
        if isinstance(last, bytearray) and len(last) < JOINED_BYTES:
            last += data
        else:
            pending.append(bytearray(data))

    def send_end(self, trailers: Fields = ()) -> None:
        """End this side of the stream after all data, with trailers if there are any."""
        if self.is_closed_locally or self._is_ending:
            return
        if self.unsent_bytes:
            self._is_ending, self._end_trailers = True, trailers
        else:
            self._emit_end(trailers)

    def pump(self, limit: int) -> None:
        """Send up to `limit` pending bytes."""
        pending = self._pending
        while limit > 0 and pending:
            data = pending[0]
            sent = self._emit(bytes(data if len(data) <= limit else data[:limit]))
            if not sent:
                break
            limit -= sent
            self.unsent_bytes -= sent
            if sent == len(data):
                pending.popleft()
            else:
                pending[0] = data[sent:]
        if not self.unsent_bytes:
            self._pending = None
            if self._is_ending:
                self._emit_end(self._end_trailers)
        if self.is_write_paused and self.unsent_bytes <= WRITE_LOW_BYTES:
            self.is_write_paused = False
            if not self.is_closed_locally:
                self.on_write_resumed()

    def reset(self, code: int) -> None:
        """Send RST_STREAM and forget the stream, unless either side has reset it."""
        if self.was_reset:
            return
        connection = self.connection
        self.is_closed_locally = self.was_reset = True
        self._drop_pending()
        connection.out.append(render_rst_stream(self.stream_id, code))
        connection.queue_flush()
        connection.note_reset(self.stream_id)
        connection.forget_stream(self)

    def close_quietly(self) -> None:
        """Forget the stream without sending anything: the peer or the connection has ended it."""
        self.is_closed_locally = True
        self._drop_pending()
        self.connection.forget_stream(self)

    def _drop_pending(self) -> None:
        self._pending = None
        self._is_ending = False
        self.unsent_bytes = 0

    def _emit(self, data: bytes) -> int:
        """Add as much data to the output as the windows allow; return the number of bytes."""
        connection = self.connection
        size = min(len(data), self.send_window, connection.send_window)
        if size <= 0:
            return 0
        self.send_window -= size
        connection.send_window -= size
        limit, out, at = connection.frame_limit, connection.out, 0
        while at < size:
            taken = min(limit, size - at)
            self._tail_at, self._tail_flush = len(out), connection.flushes
            out.append(render_frame_header(taken, DATA, 0, self.stream_id))
            out.append(data if taken == len(data) else data[at : at + taken])
            at += taken
        connection.count_output(size)
        return size

    def _emit_end(self, trailers: Fields) -> None:
        connection = self.connection
        out = connection.out
        if trailers:
            self.send_headers(trailers)
        if self._tail_flush == connection.flushes and self._tail_at >= 0:
            out[self._tail_at] = add_end_stream(out[self._tail_at])
        else:
            out.append(render_frame_header(0, DATA, END_STREAM, self.stream_id))
        connection.queue_flush()
        self.is_closed_locally = True
        if self.has_ended_remotely:
            connection.forget_stream(self)
        else:
            self.on_end_sent()

    # --- receiving

    def receive_data(self, data: bytes, flow_bytes: int) -> None:
        """Process a DATA frame; `flow_bytes` includes padding. Raises StreamError."""
        if flow_bytes > self.receive_window:
            raise StreamError(FLOW_CONTROL_ERROR, "the stream's window was exceeded")
        self.receive_window -= flow_bytes
        self._owed += flow_bytes
        self.on_data(data)
        if self._owed >= _CREDIT_BYTES and not self.is_credit_held:
            self.return_credit()

    def return_credit(self) -> None:
        """Let the peer send as much as was received since the last credit."""
        owed = self._owed
        if owed < _CREDIT_BYTES or self.has_ended_remotely or self.was_reset:
            return
        self._owed = 0
        self.receive_window += owed
        self.connection.out.append(render_window_update(self.stream_id, owed))
        self.connection.queue_flush()

    def widen(self, size: int) -> None:
        """Add to the window of what may be sent. Raises StreamError."""
        if self.send_window + size > WINDOW_LIMIT_BYTES:
            raise StreamError(FLOW_CONTROL_ERROR, "the window became too large")
        self.send_window += size
