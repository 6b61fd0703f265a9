"""Writes the frames of one HTTP/2 connection: all frames of a turn at once, and data in turns among its streams.

Takes rendered frames from streams (stream.py) and from connection.py. While the transport or the connection's window is
full, data stays in the streams. When there is room, each waiting stream sends ROUND_BYTES before the next one does.
"""

import asyncio
from abc import abstractmethod
from typing import Final

from maesh_core.proxy.http.environment import Environment
from maesh_core.proxy.http.http2.budget import Budget
from maesh_core.proxy.http.http2.fields import Fields
from maesh_core.proxy.http.http2.frames import DEFAULT_WINDOW_BYTES, FRAME_LIMIT_BYTES
from maesh_core.proxy.http.http2.hpack.encoder import Encoder
from maesh_core.proxy.http.http2.stream import FrameSink, Http2Stream
from maesh_core.proxy.http.transports import WRITE_HIGH_BYTES

ROUND_BYTES: Final = 16384
"""Bytes that each waiting stream sends before the next one."""
CONTROL_REFILL_PER_S: Final = 100.0
"""Tokens for control frames that time brings back."""
TOKENS_PER_DATA: Final = 4
"""Tokens for control frames that a DATA frame brings back: WINDOW_UPDATE frames for stream and connection follow it."""
BYTES_PER_TOKEN: Final = 256
"""Each of these bytes of data brings one more token back, since peers may credit data in small steps."""
TOKENS_PER_STREAM: Final = 8
"""Tokens for control frames that a finished exchange brings back."""
RECENT_RESETS: Final = 256
"""Streams that were reset by this side, whose frames are still ignored: the peer may not know yet."""


_NEVER: Final = float("inf")


class ConnectionOutput(FrameSink):
    """The output of one connection. `streams` contains the streams that are not closed on both sides."""

    __slots__ = (
        "_blocked",
        "_control",
        "_encoder",
        "_is_flush_queued",
        "_output_bytes",
        "_recent_resets",
        "_transport",
        "environment",
        "streams",
    )

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self._transport: asyncio.Transport | None = None
        self._encoder = Encoder()
        self._control = Budget(environment.settings.http2_control_limit, CONTROL_REFILL_PER_S, environment.clock.now)
        self._blocked: dict[int, Http2Stream] = {}
        self._is_flush_queued = False
        self._output_bytes = 0
        self._recent_resets: dict[int, None] = {}
        self.streams: dict[int, Http2Stream] = {}
        self.deadline = _NEVER
        self.out: list[bytes] = []
        self.flushes = 0
        self.send_window = DEFAULT_WINDOW_BYTES
        self.frame_limit = FRAME_LIMIT_BYTES
        self.is_write_paused = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} streams={len(self.streams)} out={len(self.out)} window={self.send_window}>"

    @abstractmethod
    def on_stream_finished(self) -> None:
        """Continue after a stream has ended with its response."""

    @abstractmethod
    def on_streams_changed(self) -> None:
        """Continue after a stream has been removed."""

    def pause_writing(self) -> None:
        """Keep data in the streams: the peer reads more slowly."""
        self.is_write_paused = True

    def resume_writing(self) -> None:
        """Send data of the streams that wait."""
        self.is_write_paused = False
        self._pump()
        self._flush()

    # --- writing frames (see FrameSink)

    def encode(self, fields: Fields, never_indexed: frozenset[bytes]) -> bytes:
        """Compress a header list; the frames must be added to `out` before the next call."""
        return self._encoder.encode(fields, never_indexed)

    def queue_flush(self) -> None:
        """Write `out` at the end of this turn."""
        if not self._is_flush_queued:
            self._is_flush_queued = True
            asyncio.get_running_loop().call_soon(self._flush_later)

    def count_output(self, size: int) -> None:
        """Record that a DATA frame was added to `out`; write it if there is much."""
        self._output_bytes += size
        self._control.earn(TOKENS_PER_DATA + size // BYTES_PER_TOKEN)
        if self._output_bytes > WRITE_HIGH_BYTES:
            self._flush()
        elif not self._is_flush_queued:
            self.queue_flush()

    def add_blocked(self, stream: Http2Stream) -> None:
        """Call the stream's `pump` when the connection can send more."""
        self._blocked[stream.stream_id] = stream

    def forget_stream(self, stream: Http2Stream) -> None:
        """Remove a stream that is closed on both sides."""
        self._blocked.pop(stream.stream_id, None)
        if self.streams.pop(stream.stream_id, None) is not None:
            if not stream.was_reset:
                self.note_finished()
            self.on_streams_changed()

    def note_finished(self) -> None:
        """Allow more frames of no use for an exchange that has ended with its response."""
        self._control.earn(TOKENS_PER_STREAM)
        self.on_stream_finished()

    def note_reset(self, stream_id: int) -> None:
        """Ignore the frames of a stream that this side has reset for a while."""
        recent = self._recent_resets
        if len(recent) >= RECENT_RESETS:
            del recent[next(iter(recent))]
        recent[stream_id] = None

    def _flush_later(self) -> None:
        self._is_flush_queued = False
        if self.out:
            self._flush()

    def _flush(self) -> None:
        out, transport = self.out, self._transport
        if not out:
            return
        data = b"".join(out)
        out.clear()
        self.flushes += 1
        self._output_bytes = 0
        if transport is not None and not transport.is_closing():
            transport.write(data)

    def _pump(self) -> None:
        """Let the waiting streams send in turns, until the windows or the transport are full."""
        is_sending = self._can_send
        while is_sending and self._blocked:
            is_sending = False
            for stream in list(self._blocked.values()):
                unsent = stream.unsent_bytes
                stream.pump(ROUND_BYTES)
                self._blocked.pop(stream.stream_id, None)
                if stream.unsent_bytes:  # it waits behind all others
                    self._blocked[stream.stream_id] = stream
                is_sending = is_sending or stream.unsent_bytes < unsent
                if not self._can_send:
                    return

    @property
    def _can_send(self) -> bool:
        return self.send_window > 0 and not self.is_write_paused
