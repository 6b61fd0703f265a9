"""Sends the frames of one connection: all frames of a turn in one record, and data in turns among the streams.

Takes frames and data from streams (stream.py), and passes bytes to a `Channel` (link.py). While the socket is full or
the connection's window is used up, data stays in the streams; when there is room, each waiting stream sends ROUND_BYTES
before the next one does.
"""

from abc import abstractmethod
from typing import Final, Protocol

from maesh_core.proxy.http.http2.budget import Budget
from maesh_core.proxy.http.http2.fields import Fields
from maesh_core.proxy.http.http2.frames import (
    DATA,
    DEFAULT_WINDOW_BYTES,
    FRAME_HEADER_BYTES,
    render_frame_header,
)
from maesh_core.proxy.http.http2.frames import FRAME_LIMIT_BYTES as SMALLEST_FRAME_LIMIT_BYTES
from maesh_core.proxy.http.http2.hpack.encoder import Encoder
from maesh_core.proxy.tunnel.environment import TunnelEnvironment
from maesh_core.proxy.tunnel.limits import (
    BATCH_BYTES,
    BYTES_PER_TOKEN,
    CONTROL_REFILL_PER_S,
    FRAME_LIMIT_BYTES,
    PUMP_BYTES,
    ROUND_BYTES,
    STREAM_LIMIT,
    TOKENS_PER_DATA,
    TOKENS_PER_STREAM,
)
from maesh_core.proxy.tunnel.stream import StreamOutput, TunnelStream

_SIZE_STARTS: Final = tuple(size.to_bytes(2, "big") for size in range((FRAME_LIMIT_BYTES >> 8) + 1))
_SIZE_ENDS: Final = tuple(bytes((size, DATA, 0)) for size in range(256))
"""Parts of the header of a DATA frame: the first two bytes of its size; the third one, the type and the flags. Joined
with the other parts of a batch, they cost a third of what `struct` needs to pack a header."""
COPIED_BYTES: Final = 16384
"""Smaller payloads are copied and sent with the other frames of a turn; larger ones are encrypted at once."""


class Channel(Protocol):
    """What carries the bytes of a connection."""

    __slots__ = ()

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the socket has not accepted yet."""

    def write(self, data: bytes | memoryview) -> None:
        """Take bytes to send with the next flush. The memory may be reused afterwards."""

    def flush(self) -> None:
        """Send as much as the socket accepts. A failure is reported in a later turn of the loop."""

    def close(self) -> None:
        """Send the rest, say that this is the end, and close."""

    def abort(self) -> None:
        """Close at once."""

    def read_more(self) -> None:
        """Process what was kept, and read on, in a later turn of the loop."""


class ConnectionOutput(StreamOutput):
    """The output of one connection. `streams` contains the streams that are not closed on both sides.

    `direct_writes` is the number of streams awaiting an answer up to which data is sent at once.
    """

    __slots__ = (
        "_awaiting",
        "_blocked",
        "_control",
        "_encoder",
        "_is_pump_queued",
        "_is_queued",
        "_out",
        "_out_bytes",
        "_reset_windows",
        "channel",
        "direct_writes",
        "environment",
        "is_ended",
        "streams",
    )

    def __init__(self, environment: TunnelEnvironment, *, direct_writes: int) -> None:
        self.environment = environment
        self.channel: Channel | None = None
        self.direct_writes = direct_writes
        self.streams: dict[int, TunnelStream] = {}
        self.is_ended = False
        self.send_window = DEFAULT_WINDOW_BYTES
        self.frame_limit = SMALLEST_FRAME_LIMIT_BYTES
        self.is_write_paused = False
        self._encoder = Encoder()
        limit = environment.node.settings.http2_control_limit
        self._control = Budget(limit, CONTROL_REFILL_PER_S, environment.clock.now)
        self._blocked: dict[int, TunnelStream] = {}
        self._reset_windows: dict[int, int] = {}
        """What the peer may still have sent, by stream that this side has reset."""
        self._out: list[bytes | memoryview] = []
        self._out_bytes = 0
        self._awaiting = 0
        self._is_queued = False
        self._is_pump_queued = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} streams={len(self.streams)} unsent={self._out_bytes}>"

    @abstractmethod
    def on_stream_gone(self, stream: TunnelStream) -> None:
        """Continue after a stream has been removed."""

    # --- frames (see StreamOutput)

    def encode(self, fields: Fields) -> bytes:
        """Compress a header list; the frames must be added before the next call."""
        return self._encoder.encode(fields)

    def put(self, frame: bytes) -> None:
        """Send a frame that carries no data."""
        self._out.append(frame)
        self._out_bytes += len(frame)
        self._queue_flush()

    def put_data(self, stream: TunnelStream, data: bytes | memoryview, limit: int) -> int:
        """Send data as far as the windows, the limit and the socket allow; return the number of bytes."""
        size = len(data)
        window = stream.send_window if stream.send_window < self.send_window else self.send_window
        fits = size <= window and size <= limit
        if not fits:
            size = min(window, limit)
        if size <= 0 or self.is_write_paused:
            return 0
        if fits and size <= self.frame_limit and self._out_bytes + size <= BATCH_BYTES:
            self._add_data(stream, data, size)
            self._note_sent(stream, size)
            return size
        return self._put_pieces(stream, memoryview(data), size)

    def _put_pieces(self, stream: TunnelStream, data: memoryview, size: int) -> int:
        at = 0
        while at < size:
            taken = min(size - at, self.frame_limit)
            if self._out_bytes and self._out_bytes + taken > BATCH_BYTES:
                self.flush()
                if self.is_write_paused:
                    break
            self._add_data(stream, data[at : at + taken], taken)
            at += taken
        if at:
            self._note_sent(stream, at)
        return at

    def _add_data(self, stream: TunnelStream, data: bytes | memoryview, size: int) -> None:
        out = self._out
        out.append(_SIZE_STARTS[size >> 8])
        out.append(_SIZE_ENDS[size & 0xFF])
        out.append(stream.id_bytes)
        out.append(data)
        self._out_bytes += size + FRAME_HEADER_BYTES

    def put_received(self, stream: TunnelStream, data: bytes) -> None:
        """Send a frame with this payload, within the windows and `frame_limit`."""
        size = len(data)
        self._add_data(stream, data, size)
        self._note_received(stream, size)

    def put_scratch(self, stream: TunnelStream, size: int) -> None:
        """Send a frame whose payload is in the environment's scratch buffer, within the windows."""
        channel = self.channel
        if size < COPIED_BYTES or channel is None:
            self.put_received(stream, bytes(self.environment.scratch_payload[:size]))
            return
        frame = self.environment.scratch[: FRAME_HEADER_BYTES + size]
        frame[:FRAME_HEADER_BYTES] = render_frame_header(size, DATA, 0, stream.stream_id)
        self._encrypt(channel)
        channel.write(frame)
        self._out_bytes += size + FRAME_HEADER_BYTES
        self._note_received(stream, size)

    def _note_received(self, stream: TunnelStream, size: int) -> None:
        self._note_sent(stream, size)
        if self._out_bytes > BATCH_BYTES - self.frame_limit:
            self.flush()

    def _note_sent(self, stream: TunnelStream, size: int) -> None:
        stream.send_window -= size
        self.send_window -= size
        stream.has_sent = True
        self._control.earn(TOKENS_PER_DATA + size // BYTES_PER_TOKEN)
        if not stream.is_awaiting:
            stream.is_awaiting = True
            self._awaiting += 1
        if not self._is_queued and self._awaiting <= self.direct_writes:
            self.flush()
        else:
            self._queue_flush()

    def note_answer(self, stream: TunnelStream) -> None:
        """Record that the peer has answered what was written."""
        stream.is_awaiting = False
        self._awaiting -= 1

    def note_reset(self, stream: TunnelStream) -> None:
        """Ignore the frames of a stream that this side has reset, within its window."""
        if stream.has_ended_remotely:
            return
        windows = self._reset_windows
        if len(windows) >= STREAM_LIMIT:
            del windows[next(iter(windows))]
        windows[stream.stream_id] = stream.receive_window

    def forget_stream(self, stream: TunnelStream) -> None:
        """Remove a stream that is closed on both sides."""
        self._blocked.pop(stream.stream_id, None)
        if self.streams.pop(stream.stream_id, None) is None:
            return
        if stream.is_awaiting:
            self.note_answer(stream)
        self._control.earn(TOKENS_PER_STREAM)
        self.on_stream_gone(stream)

    # --- sending

    def _queue_flush(self) -> None:
        if not self._is_queued:
            self._is_queued = True
            self.environment.flusher.queue(self)

    def _encrypt(self, channel: Channel) -> None:
        out = self._out
        if out:
            channel.write(b"".join(out))
            out.clear()

    def flush(self) -> None:
        """Send what was written; without room in the socket, data waits in the streams from now on."""
        self._is_queued = False
        channel = self.channel
        if channel is None:
            self._out.clear()
            return
        self._encrypt(channel)
        self._out_bytes = 0
        channel.flush()
        self.is_write_paused = channel.unsent_bytes > 0

    def add_blocked(self, stream: TunnelStream) -> None:
        """Call the stream's `pump` when the connection can send more."""
        self._blocked[stream.stream_id] = stream
        if not self.is_write_paused and self.send_window > 0:
            self._queue_pump()

    def on_writable(self) -> None:
        """Send data of the streams that wait, since the socket accepts bytes again."""
        self.flush()
        if not self.is_write_paused:
            self.pump_blocked()

    def pump_blocked(self) -> None:
        """Let the waiting streams send in turns, until the windows or the socket are full."""
        blocked = self._blocked
        left = PUMP_BYTES
        while blocked and self._can_send():
            if left <= 0:
                self._queue_pump()
                return
            limit = ROUND_BYTES if len(blocked) > 1 else BATCH_BYTES
            for stream_id in list(blocked):
                stream = blocked.pop(stream_id, None)
                if stream is None:
                    continue
                before = self.send_window
                if stream.pump(limit):
                    blocked[stream_id] = stream
                left -= before - self.send_window
                if not self._can_send():
                    return

    def _can_send(self) -> bool:
        return self.send_window > 0 and not self.is_write_paused

    def _queue_pump(self) -> None:
        if not self._is_pump_queued:
            self._is_pump_queued = True
            self.environment.sockets.put_off(self._pump_later)

    def _pump_later(self) -> None:
        self._is_pump_queued = False
        if not self.is_ended:
            self.pump_blocked()
            self.flush()
