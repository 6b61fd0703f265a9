"""One stream of a tunnel: its state and its windows (RFC 9113 sections 5.1 and 5.2). Has no data of its own.

A stream is a connection to a server. transport.py has the end that writes what a protocol sends, and pod_connection.py
the end that reads a socket. Received bytes are credited when they have been passed on, so a peer cannot make this side
keep more than one window of a stream, and a stream that is not read delays no other.
"""

from abc import abstractmethod
from typing import Final, Protocol

from maesh_core.proxy.http.http2.errors import StreamError
from maesh_core.proxy.http.http2.fields import Fields
from maesh_core.proxy.http.http2.frames import (
    CANCEL,
    DATA,
    END_STREAM,
    FLOW_CONTROL_ERROR,
    WINDOW_LIMIT_BYTES,
    render_frame_header,
    render_headers,
    render_rst_stream,
    render_window_update,
)
from maesh_core.proxy.tunnel.environment import Flushable
from maesh_core.proxy.tunnel.limits import STREAM_CREDIT_BYTES, STREAM_WINDOW_BYTES

UNLIMITED: Final = 1 << 62


class StreamOutput(Flushable, Protocol):
    """The part of a connection that its streams use (output.py)."""

    __slots__ = ("frame_limit", "is_write_paused", "send_window")

    send_window: int
    frame_limit: int
    is_write_paused: bool

    def put(self, frame: bytes) -> None:
        """Send a frame that carries no data."""

    def put_data(self, stream: "TunnelStream", data: bytes | memoryview, limit: int) -> int:
        """Send data as far as the windows, the limit and the socket allow; return the number of bytes."""

    def put_received(self, stream: "TunnelStream", data: bytes) -> None:
        """Send a frame with this payload, within the windows and `frame_limit`."""

    def put_scratch(self, stream: "TunnelStream", size: int) -> None:
        """Send a frame whose payload is in the environment's scratch buffer, within the windows."""

    def encode(self, fields: Fields) -> bytes:
        """Compress a header list; the frames must be added before the next call."""

    def add_blocked(self, stream: "TunnelStream") -> None:
        """Call the stream's `pump` when the connection can send more."""

    def forget_stream(self, stream: "TunnelStream") -> None:
        """Remove a stream that is closed on both sides."""

    def note_reset(self, stream: "TunnelStream") -> None:
        """Ignore the frames of a stream that this side has reset, within its window."""

    def note_answer(self, stream: "TunnelStream") -> None:
        """Record that the peer has answered what was written."""


class TunnelStream:
    """The state of a stream. `is_awaiting` means that data was written since data was last received."""

    __slots__ = (
        "_owed",
        "connection",
        "has_ended_locally",
        "has_ended_remotely",
        "has_received",
        "has_sent",
        "id_bytes",
        "is_awaiting",
        "is_gone",
        "receive_window",
        "send_window",
        "stream_id",
    )

    def __init__(self, connection: StreamOutput, stream_id: int, send_window: int) -> None:
        self.connection = connection
        self.stream_id = stream_id
        self.id_bytes = stream_id.to_bytes(4, "big")
        self.send_window = send_window
        self.receive_window = STREAM_WINDOW_BYTES
        self.has_ended_locally = False
        self.has_ended_remotely = False
        self.has_received = False
        self.has_sent = False
        self.is_awaiting = False
        self.is_gone = False
        """Whether it was reset, is closed on both sides, or its connection has ended."""
        self._owed = 0

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.stream_id} window={self.send_window}"
            f" ended={self.has_ended_locally}/{self.has_ended_remotely}>"
        )

    # --- implemented by subclasses

    @abstractmethod
    def on_headers(self, fields: Fields) -> None:
        """Handle a header list after that which opened the stream. Raises StreamError."""

    @abstractmethod
    def on_data(self, data: bytes | memoryview) -> None:
        """Handle data, which is only valid during the call; `credit` it when it has been passed on."""

    @abstractmethod
    def on_end(self) -> None:
        """Handle the end of what the peer sends, after its data."""

    @abstractmethod
    def on_reset(self, code: int) -> None:
        """Handle the peer's RST_STREAM, or the error for which this side has reset the stream; it is gone."""

    @abstractmethod
    def on_connection_lost(self) -> None:
        """Handle the end of the connection; the stream is gone."""

    @abstractmethod
    def pump(self, limit: int) -> bool:
        """Send up to about `limit` bytes that wait; return whether more wait for the connection, not for a window."""

    def on_closed(self) -> None:
        """Continue after both sides have ended in good order; the stream is gone."""

    # --- sending

    def send_headers(self, fields: Fields, *, is_end: bool = False) -> None:
        """Send a header list, and the end of the stream if it is the last that is sent."""
        connection = self.connection
        pieces = render_headers(self.stream_id, connection.encode(fields), connection.frame_limit)
        if is_end:
            header = pieces[0]
            pieces[0] = header[:4] + bytes((header[4] | END_STREAM,)) + header[5:]
        connection.put(b"".join(pieces))
        if is_end:
            self._end_locally()

    def send_end(self) -> None:
        """End this side after all data."""
        if self.has_ended_locally or self.is_gone:
            return
        self.connection.put(render_frame_header(0, DATA, END_STREAM, self.stream_id))
        self._end_locally()

    def _end_locally(self) -> None:
        self.has_ended_locally = True
        self.close_if_ended()

    def close_if_ended(self) -> None:
        """Leave the connection if both sides have ended."""
        if self.has_ended_locally and self.has_ended_remotely and not self.is_gone:
            self.forget()
            self.on_closed()

    def reset(self, code: int = CANCEL) -> None:
        """Send RST_STREAM, and forget the stream."""
        if not self.is_gone:
            self.connection.put(render_rst_stream(self.stream_id, code))
            self.connection.note_reset(self)
            self.forget()

    def forget(self) -> None:
        """Leave the connection: the stream is closed on both sides, or reset."""
        self.is_gone = True
        self.connection.forget_stream(self)

    # --- receiving

    def receive(self, data: bytes | memoryview, flow_bytes: int, *, is_end: bool) -> None:
        """Process a DATA frame; `flow_bytes` includes padding. Raises StreamError."""
        if flow_bytes > self.receive_window:
            raise StreamError(FLOW_CONTROL_ERROR, "the stream's window was exceeded")
        self.receive_window -= flow_bytes
        size = len(data)
        if flow_bytes > size:
            self.credit(flow_bytes - size)
        if is_end:
            self.has_ended_remotely = True
        if size:
            self.has_received = True
            if self.is_awaiting:
                self.connection.note_answer(self)
            self.on_data(data)
        if is_end and not self.is_gone:
            self.on_end()
            self.close_if_ended()

    def credit(self, size: int) -> None:
        """Let the peer send as much again, since these bytes have been passed on."""
        self._owed += size
        if self._owed >= STREAM_CREDIT_BYTES and not self.has_ended_remotely and not self.is_gone:
            self.receive_window += self._owed
            self.connection.put(render_window_update(self.stream_id, self._owed))
            self._owed = 0

    def widen(self, size: int) -> None:
        """Add to the window of what may be sent. Raises StreamError."""
        if self.send_window + size > WINDOW_LIMIT_BYTES:
            raise StreamError(FLOW_CONTROL_ERROR, "the window became too large")
        self.send_window += size
