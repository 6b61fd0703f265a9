"""The frames of an HTTP/2 connection that carry no message: SETTINGS, PING, GOAWAY, WINDOW_UPDATE, and the like.

Takes the payloads of frames that connection.py has cut out; answers SETTINGS and PING, and changes windows. Budgets
limit frames that cost the mesh work and are of no use: control frames, empty frames, and resets. Useful work of a peer
brings tokens back (RFC 9113 section 10.5).
"""

from abc import abstractmethod

from maesh_core.proxy.http.environment import Environment
from maesh_core.proxy.http.http2.connection_output import ConnectionOutput
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
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    GOAWAY,
    HEADER_TABLE_SIZE,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    PING,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    SETTINGS_ACK,
    WINDOW_LIMIT_BYTES,
    render_ping,
)
from maesh_core.proxy.http.http2.stream import Http2Stream


class ControlFrames(ConnectionOutput):
    """The control frames of one connection, and what the peer has set: its windows and its limit of streams."""

    __slots__ = ("has_settings", "peer_stream_limit", "peer_window")

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.has_settings = False
        self.peer_window = DEFAULT_WINDOW_BYTES
        self.peer_stream_limit = WINDOW_LIMIT_BYTES

    # --- implemented by subclasses

    @abstractmethod
    def is_idle_stream(self, stream_id: int) -> bool:
        """Whether a stream has never been opened."""

    @abstractmethod
    def on_settings(self) -> None:
        """Handle new settings of the peer."""

    @abstractmethod
    def on_settings_ack(self) -> None:
        """Handle the peer's acknowledgement of our settings."""

    @abstractmethod
    def on_goaway(self, last_stream_id: int, code: int) -> None:
        """Handle the peer's GOAWAY."""

    @abstractmethod
    def on_ping_ack(self, payload: bytes) -> None:
        """Handle the answer to a PING."""

    @abstractmethod
    def on_stream_reset(self, now: float) -> None:
        """Count a stream that either side has reset. Raises Http2ConnectionError."""

    # --- called by connection.py

    def _read_control_frame(self, kind: int, flags: int, stream_id: int, data: bytes, start: int, end: int) -> None:
        """Process a control frame; frames of unknown types are ignored (section 4.1)."""
        if kind == RST_STREAM:
            self._read_rst_stream(stream_id, data, start, end)
        elif kind == SETTINGS:
            self._read_settings(flags, stream_id, data, start, end)
        elif kind == PING:
            self._read_ping(flags, stream_id, data[start:end])
        elif kind == GOAWAY:
            self._read_goaway(stream_id, data, start, end)
        elif kind == PRIORITY:
            check_priority(stream_id, data, start, end)
        elif kind == PUSH_PROMISE:
            raise Http2ConnectionError(PROTOCOL_ERROR, "PUSH_PROMISE is disabled")

    def _count_control(self) -> None:
        if not self._control.spend(self.environment.clock.now):
            raise Http2ConnectionError(ENHANCE_YOUR_CALM, "too many frames of no use")

    def _fail_stream(self, stream: Http2Stream, code: int) -> None:
        """Reset a stream because of the peer's error."""
        stream.reset(code)
        stream.on_reset(code)
        self.on_stream_reset(self.environment.clock.now)

    # --- RST_STREAM, WINDOW_UPDATE

    def _read_rst_stream(self, stream_id: int, data: bytes, start: int, end: int) -> None:
        code = parse_rst_stream(data, start, end)
        if stream_id == 0 or self.is_idle_stream(stream_id):
            raise Http2ConnectionError(PROTOCOL_ERROR, "RST_STREAM of an idle stream")
        stream = self.streams.get(stream_id)
        if stream is None:
            return
        stream.is_closed_locally = stream.has_ended_remotely = stream.was_reset = True
        self.forget_stream(stream)
        stream.reset_code = code
        stream.on_reset(code)
        self.on_stream_reset(self.environment.clock.now)

    def _read_window_update(self, stream_id: int, data: bytes, start: int, end: int) -> None:
        size = parse_window_update(data, start, end)
        self._count_control()
        if stream_id == 0:
            if size == 0:
                raise Http2ConnectionError(PROTOCOL_ERROR, "WINDOW_UPDATE by nothing")
            self.send_window += size
            if self.send_window > WINDOW_LIMIT_BYTES:
                raise Http2ConnectionError(FLOW_CONTROL_ERROR, "the connection's window became too large")
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

    # --- SETTINGS, PING, GOAWAY

    def _read_settings(self, flags: int, stream_id: int, data: bytes, start: int, end: int) -> None:
        settings = parse_settings(flags, stream_id, data, start, end)
        if flags & ACK:
            self.on_settings_ack()
            return
        self.has_settings = True
        for name, value in settings:
            self._apply_setting(name, value)
        self.out.append(SETTINGS_ACK)
        self.on_settings()

    def _apply_setting(self, name: int, value: int) -> None:
        if name == INITIAL_WINDOW_SIZE:
            self._change_windows(value)
        elif name == MAX_CONCURRENT_STREAMS:
            self.peer_stream_limit = value
        elif name == HEADER_TABLE_SIZE:
            self._encoder.set_max_table_size(value)

    def _change_windows(self, value: int) -> None:
        """Apply another SETTINGS_INITIAL_WINDOW_SIZE to all streams (section 6.9.2)."""
        change, self.peer_window = value - self.peer_window, value
        for stream in self.streams.values():
            stream.send_window += change
            if stream.send_window > WINDOW_LIMIT_BYTES:
                raise Http2ConnectionError(FLOW_CONTROL_ERROR, "a stream's window became too large")

    def _read_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        check_ping(stream_id, payload)
        if flags & ACK:
            self.on_ping_ack(payload)
        else:
            self.out.append(render_ping(payload, is_ack=True))

    def _read_goaway(self, stream_id: int, data: bytes, start: int, end: int) -> None:
        last, code = parse_goaway(stream_id, data, start, end)
        self.on_goaway(last, code)
