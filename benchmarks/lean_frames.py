"""Frames of four bytes for many streams on one connection: the leanest framing that keeps a window for each stream.

Takes what streams write and bytes that have arrived; returns bytes to a channel and data to protocols. A prototype that
tunnel_framing.py compares with the engine's frames of HTTP/2: it opens, ends and resets no stream, and trusts its peer.
Compiled by mypyc for that, so its values have the types of C that the engine's have.
"""

from typing import Any, Final

HEADER_BYTES: Final = 4
"""Two bytes for the stream, two for the length; stream 0 has credits, of 6 bytes each: a stream and a number."""
PAYLOAD_BYTES: Final = 65535
WINDOW_BYTES: Final = 262144
CREDIT_BYTES: Final = WINDOW_BYTES // 2
DIRECT_WRITES: Final = 3
"""As in the engine (limits.py): with few writes in progress, data is sent at once."""


class LeanStream:
    """One stream, with the methods of a transport that the comparison uses."""

    __slots__ = ("_connection", "_owed", "_protocol", "is_awaiting", "number", "receive_window", "send_window")

    def __init__(self, connection: "LeanConnection", number: int, protocol: Any) -> None:
        self._connection = connection
        self._protocol = protocol
        self._owed = 0
        self.number = number
        self.send_window = self.receive_window = WINDOW_BYTES
        self.is_awaiting = False

    def write(self, data: bytes) -> None:
        """Send bytes that fit into the window."""
        self._connection.put_data(self, data)

    def receive(self, data: bytes) -> None:
        """Pass data on, and credit it."""
        size = len(data)
        self.receive_window -= size
        if self.receive_window < 0:
            raise ValueError("the window was exceeded")
        if self.is_awaiting:
            self._connection.note_answer(self)
        self._owed += size
        if self._owed >= CREDIT_BYTES:
            self._connection.put_credit(self, self._owed)
            self.receive_window += self._owed
            self._owed = 0
        self._protocol.data_received(data)


class LeanConnection:
    """All streams of one connection. `direct_writes` is as in the engine's output (output.py)."""

    __slots__ = ("_awaiting", "_channel", "_direct_writes", "_is_queued", "_kept", "_out", "_plain", "_view", "streams")

    def __init__(self, channel: Any, plain: bytearray, *, direct_writes: int) -> None:
        self._channel = channel
        self._plain = plain
        self._view = memoryview(plain)
        self._direct_writes = direct_writes
        self._awaiting = 0
        self._is_queued = False
        self._kept = b""
        self._out: list[bytes] = []
        self.streams: dict[int, LeanStream] = {}

    def put_data(self, stream: LeanStream, data: bytes) -> None:
        """Send data in frames."""
        size = len(data)
        if size > stream.send_window:
            raise ValueError("more than the window")
        stream.send_window -= size
        at = 0
        while at < size:
            taken = min(size - at, PAYLOAD_BYTES)
            number = stream.number
            self._out.append(bytes((number >> 8, number & 255, taken >> 8, taken & 255)))
            self._out.append(data if taken == size else data[at : at + taken])
            at += taken
        if not stream.is_awaiting:
            stream.is_awaiting = True
            self._awaiting += 1
        if not self._is_queued and self._awaiting <= self._direct_writes:
            self.flush()
        else:
            self._is_queued = True

    def put_credit(self, stream: LeanStream, size: int) -> None:
        """Let the peer send as much again."""
        self._out.append(b"\0\0\0\x06" + stream.number.to_bytes(2, "big") + size.to_bytes(4, "big"))

    def note_answer(self, stream: LeanStream) -> None:
        """Record that the peer has answered what was written."""
        stream.is_awaiting = False
        self._awaiting -= 1

    def flush(self) -> None:
        """Send what was written."""
        self._is_queued = False
        if self._out:
            self._channel.write(b"".join(self._out))
            self._out.clear()
            self._channel.flush()

    def begin_read(self) -> int:
        """Put back what was kept of the last read; return where new bytes go."""
        size = len(self._kept)
        if size:
            self._plain[:size] = self._kept
        return size

    def process(self, end: int) -> None:
        """Handle the complete frames up to `end`."""
        plain, view, at = self._plain, self._view, 0
        while end - at >= HEADER_BYTES:
            start = at + HEADER_BYTES
            stop = start + (plain[at + 2] << 8 | plain[at + 3])
            if stop > end:
                break
            number = plain[at] << 8 | plain[at + 1]
            at = stop
            data = bytes(view[start:stop])
            if number:
                self.streams[number].receive(data)
            else:
                self.streams[int.from_bytes(data[:2], "big")].send_window += int.from_bytes(data[2:], "big")
        self._kept = bytes(view[at:end]) if at < end else b""
