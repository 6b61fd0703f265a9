"""The frames of a tunnel that carry no data: SETTINGS, PING, GOAWAY, WINDOW_UPDATE, RST_STREAM.

Takes the payloads that connection.py has cut out; answers SETTINGS and PING, and changes windows. Budgets limit frames
that cost work and are of no use (RFC 9113 section 10.5).
"""

from abc import abstractmethod
from typing import Final

from maesh_core.proxy.http.http2.budget import Budget
from maesh_core.proxy.http.http2.errors import Http2ConnectionError, StreamError
from maesh_core.proxy.http.http2.frame_payloads import (
    check_ping,
    check_priority,
    parse_goaway,
    parse_rst_stream,
    parse_settings,
    parse_window_update,
)
from maesh_core.proxy.http.http2.frames import (
    ACK,
    DEFAULT_WINDOW_BYTES,
    ENABLE_PUSH,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    GOAWAY,
    HEADER_TABLE_SIZE,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
    PING,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    SETTINGS_ACK,
    WINDOW_LIMIT_BYTES,
    render_ping,
    render_settings,
    render_window_update,
)
from maesh_core.proxy.tunnel.environment import TunnelEnvironment
from maesh_core.proxy.tunnel.limits import (
    CONNECTION_WINDOW_BYTES,
    FRAME_LIMIT_BYTES,
    HEADER_LIST_BYTES,
    RESET_LIMIT,
    RESET_REFILL_PER_S,
    STREAM_LIMIT,
    STREAM_WINDOW_BYTES,
)
from maesh_core.proxy.tunnel.output import ConnectionOutput
from maesh_core.proxy.tunnel.stream import TunnelStream

ANNOUNCEMENT: Final = render_settings(
    (HEADER_TABLE_SIZE, 0),
    (ENABLE_PUSH, 0),
    (MAX_CONCURRENT_STREAMS, STREAM_LIMIT),
    (INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES),
    (MAX_FRAME_SIZE, FRAME_LIMIT_BYTES),
    (MAX_HEADER_LIST_SIZE, HEADER_LIST_BYTES),
) + render_window_update(0, CONNECTION_WINDOW_BYTES - DEFAULT_WINDOW_BYTES)
"""What both ends send first: their settings, and the window of the connection."""


class ControlFrames(ConnectionOutput):
    """The control frames of one connection, and what the peer has set: its windows and its limit of streams."""

    __slots__ = ("_resets", "has_settings", "is_acknowledged", "peer_stream_limit", "peer_window")

    def __init__(self, environment: TunnelEnvironment, *, direct_writes: int) -> None:
        super().__init__(environment, direct_writes=direct_writes)
        self._resets = Budget(RESET_LIMIT, RESET_REFILL_PER_S, environment.clock.now)
        self.has_settings = False
        self.is_acknowledged = False
        self.peer_window = DEFAULT_WINDOW_BYTES
        self.peer_stream_limit = WINDOW_LIMIT_BYTES

    # --- implemented by subclasses

    @abstractmethod
    def is_idle_stream(self, stream_id: int) -> bool:
        """Whether a stream has never been opened."""

    @abstractmethod
    def on_settings(self) -> None:
        """Handle the peer's settings."""

    @abstractmethod
    def on_goaway(self, last_stream_id: int, code: int) -> None:
        """Handle the peer's GOAWAY."""

    # --- called by connection.py

    def _read_control_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Process a control frame; frames of unknown types are ignored (section 4.1)."""
        if kind == RST_STREAM:
            self._read_rst_stream(stream_id, payload)
            return
        self._count_control()
        if kind == SETTINGS:
            self._read_settings(flags, stream_id, payload)
        elif kind == PING:
            self._read_ping(flags, stream_id, payload)
        elif kind == GOAWAY:
            self._read_goaway(stream_id, payload)
        elif kind == PRIORITY:
            check_priority(stream_id, payload, 0, len(payload))
        elif kind == PUSH_PROMISE:
            raise Http2ConnectionError(PROTOCOL_ERROR, "PUSH_PROMISE is disabled")

    def _count_control(self) -> None:
        if not self._control.spend(self.environment.clock.now):
            raise Http2ConnectionError(ENHANCE_YOUR_CALM, "too many frames of no use")

    def _fail_stream(self, stream: TunnelStream, code: int) -> None:
        """Reset a stream because of the peer's error."""
        if not stream.is_gone:
            stream.reset(code)
            stream.on_reset(code)
        self._count_reset(stream)

    def _count_reset(self, stream: TunnelStream) -> None:
        """Count a reset, unless the stream was of use: data went both ways."""
        if stream.has_received and stream.has_sent:
            return
        if not self._resets.spend(self.environment.clock.now):
            raise Http2ConnectionError(ENHANCE_YOUR_CALM, "too many streams were reset")

    # --- RST_STREAM, WINDOW_UPDATE

    def _read_rst_stream(self, stream_id: int, payload: bytes) -> None:
        code = parse_rst_stream(payload, 0, len(payload))
        if stream_id == 0 or self.is_idle_stream(stream_id):
            raise Http2ConnectionError(PROTOCOL_ERROR, "RST_STREAM of an idle stream")
        stream = self.streams.get(stream_id)
        if stream is None:
            self._reset_windows.pop(stream_id, None)
            self._count_control()
            return
        stream.has_ended_remotely = True
        stream.forget()
        stream.on_reset(code)
        self._count_reset(stream)

    def _read_window_update(self, stream_id: int, payload: bytes) -> None:
        size = parse_window_update(payload, 0, len(payload))
        self._count_control()
        if stream_id == 0:
            if size == 0:
                raise Http2ConnectionError(PROTOCOL_ERROR, "WINDOW_UPDATE by nothing")
            self.send_window += size
            if self.send_window > WINDOW_LIMIT_BYTES:
                raise Http2ConnectionError(FLOW_CONTROL_ERROR, "the connection's window became too large")
            if self._blocked:
                self._queue_pump()
            return
        stream = self.streams.get(stream_id)
        if stream is None:
            if self.is_idle_stream(stream_id):
                raise Http2ConnectionError(PROTOCOL_ERROR, "WINDOW_UPDATE of an idle stream")
            return
        try:
            if size == 0:
                raise StreamError(PROTOCOL_ERROR, "WINDOW_UPDATE by nothing")
            stream.widen(size)
        except StreamError as error:
            self._fail_stream(stream, error.code)
            return
        self._pump_one(stream)

    def _pump_one(self, stream: TunnelStream) -> None:
        """Let a stream send after its window was widened; others that wait come first."""
        if self._blocked or self.is_write_paused or stream.pump(STREAM_WINDOW_BYTES):
            self.add_blocked(stream)

    # --- SETTINGS, PING, GOAWAY

    def _read_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        settings = parse_settings(flags, stream_id, payload, 0, len(payload))
        if flags & ACK:
            self.is_acknowledged = True
            return
        for name, value in settings:
            if name == INITIAL_WINDOW_SIZE:
                self._change_windows(value)
            elif name == MAX_FRAME_SIZE:
                self.frame_limit = min(value, FRAME_LIMIT_BYTES)
            elif name == MAX_CONCURRENT_STREAMS:
                self.peer_stream_limit = value
            elif name == HEADER_TABLE_SIZE:
                self._encoder.set_max_table_size(value)
        self.put(SETTINGS_ACK)
        is_first, self.has_settings = not self.has_settings, True
        if is_first:
            self.on_settings()

    def _change_windows(self, value: int) -> None:
        """Apply another SETTINGS_INITIAL_WINDOW_SIZE to all streams (section 6.9.2)."""
        change, self.peer_window = value - self.peer_window, value
        for stream in list(self.streams.values()):
            stream.send_window += change
            if stream.send_window > WINDOW_LIMIT_BYTES:
                raise Http2ConnectionError(FLOW_CONTROL_ERROR, "a stream's window became too large")
            if change > 0:
                self.add_blocked(stream)

    def _read_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        check_ping(stream_id, payload)
        if not flags & ACK:
            self.put(render_ping(payload, is_ack=True))

    def _read_goaway(self, stream_id: int, payload: bytes) -> None:
        last, code = parse_goaway(stream_id, payload, 0, len(payload))
        self.on_goaway(last, code)
