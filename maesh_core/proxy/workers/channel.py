"""Messages between the parent and a worker, over a pair of Unix stream sockets, with descriptors.

A frame consists of a head of three numbers, a message (MessagePack) and a payload of raw bytes. Descriptors are sent
with the first byte of their frame. This works on any event loop. A truncated or malformed stream closes the channel and
has no other effect.
"""

import asyncio
import contextlib
import os
import socket
import struct
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from maesh_core.errors import MaeshError

MESSAGE_LIMIT_BYTES = 64 * 1024 * 1024
"""The counters of 10,000 services take about 5 MB."""
PAYLOAD_LIMIT_BYTES = 512 * 1024 * 1024
"""A pull has at most 256 MiB; a full configuration that was merged from many pulls may be larger."""
DESCRIPTORS_LIMIT = 16
"""A port on all addresses has two sockets."""

READ_BYTES = 256 * 1024
FLUSH_POLL_S = 0.005
_WAITING_LIMIT = 8 * DESCRIPTORS_LIMIT
"""Descriptors that may arrive before their frames."""

_ANCILLARY_BYTES = socket.CMSG_LEN(DESCRIPTORS_LIMIT * struct.calcsize("i"))

_HEAD = struct.Struct("!IIB")

ReceivedT = TypeVar("ReceivedT")

OnMessage = Callable[[ReceivedT, bytes, Sequence[int]], None]
"""Receives a message, its payload and its descriptors, which it then owns."""


class ChannelError(MaeshError):
    """The other end sent an invalid message."""


class Frames(Generic[ReceivedT]):
    """Parses frames from received bytes, and owns descriptors until their frame is complete. Does no other I/O."""

    __slots__ = ("_buffer", "_decoder", "_descriptors")

    def __init__(self, type_: Any) -> None:
        self._decoder: msgspec.msgpack.Decoder[ReceivedT] = msgspec.msgpack.Decoder(type_)
        self._buffer = bytearray()
        self._descriptors: deque[int] = deque()

    def __repr__(self) -> str:
        return f"<Frames {len(self._buffer)} bytes, {len(self._descriptors)} descriptors>"

    def receive(self, data: bytes, descriptors: Sequence[int] = ()) -> None:
        """Add received bytes and descriptors; raises ChannelError if more descriptors wait than a frame may have."""
        self._buffer += data
        self._descriptors += descriptors
        if len(self._descriptors) > _WAITING_LIMIT:
            raise ChannelError("descriptors without messages")

    def pop(self) -> tuple[ReceivedT, bytes, Sequence[int]] | None:
        """Return the next complete frame, or None; raises ChannelError if it is invalid."""
        buffer = self._buffer
        if len(buffer) < _HEAD.size:
            return None
        message_bytes, payload_bytes, count = _HEAD.unpack_from(buffer)
        if message_bytes > MESSAGE_LIMIT_BYTES or payload_bytes > PAYLOAD_LIMIT_BYTES or count > DESCRIPTORS_LIMIT:
            raise ChannelError("a frame that is too large")
        payload_at = _HEAD.size + message_bytes
        end = payload_at + payload_bytes
        if len(buffer) < end:
            return None
        if len(self._descriptors) < count:
            raise ChannelError("a frame without its descriptors")
        with memoryview(buffer) as view:
            try:
                message = self._decoder.decode(view[_HEAD.size : payload_at])
            except (msgspec.DecodeError, RecursionError) as error:
                raise ChannelError(f"a frame that is not a message: {error}") from error
            payload = bytes(view[payload_at:end])
        del buffer[:end]
        return message, payload, [self._descriptors.popleft() for _ in range(count)]

    def close(self) -> None:
        """Close the descriptors of incomplete frames."""
        while self._descriptors:
            os.close(self._descriptors.popleft())
        self._buffer.clear()


class Channel(Generic[ReceivedT]):
    """One end. Calls `on_message` for each message, and `on_closed` once with the reason when the channel ends.

    Create it in the event loop. Exceptions of `on_message` are not caught: they are programming errors.
    """

    __slots__ = ("_frames", "_is_writing", "_loop", "_on_closed", "_on_message", "_outgoing", "_socket")

    def __init__(
        self,
        sock: socket.socket,
        type_: Any,
        *,
        on_message: "OnMessage[ReceivedT]",
        on_closed: Callable[[str], None],
    ) -> None:
        sock.setblocking(False)  # noqa: FBT003 - the method's name makes it clear
        self._socket = sock
        self._loop = asyncio.get_running_loop()
        self._frames: Frames[ReceivedT] = Frames(type_)
        self._on_message = on_message
        self._on_closed = on_closed
        self._outgoing: deque[tuple[memoryview, Sequence[socket.socket]]] = deque()
        self._is_writing = False
        self._loop.add_reader(sock.fileno(), self._read)

    def __repr__(self) -> str:
        return f"<Channel {'closed' if self.is_closed else 'open'}, {len(self._outgoing)} parts to send>"

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._socket.fileno() < 0

    @property
    def has_unsent(self) -> bool:
        """Whether the other end has not taken everything that was sent."""
        return bool(self._outgoing)

    def send(self, message: object, *, payload: bytes = b"", sockets: Sequence[socket.socket] = ()) -> None:
        """Send a message; on a closed channel, it is discarded. `sockets` may be closed afterwards."""
        if self.is_closed:
            return
        text = msgspec.msgpack.encode(message)
        head = _HEAD.pack(len(text), len(payload), len(sockets))
        # Copy each descriptor, since its owner may close it before it is sent.
        copies = [sock.dup() for sock in sockets]
        self._outgoing.append((memoryview(head + text), copies))
        if payload:
            self._outgoing.append((memoryview(payload), ()))
        if not self._is_writing:
            self._write()

    async def flush(self) -> None:
        """Wait until everything is sent or the channel is closed."""
        while self._outgoing:  # noqa: ASYNC110 - called once per process, and rarely loops
            await asyncio.sleep(FLUSH_POLL_S)

    def close(self, reason: str = "closed") -> None:
        """Close the channel; messages that were not sent are discarded."""
        if self.is_closed:
            return
        self._loop.remove_reader(self._socket.fileno())
        self._stop_writing()
        self._socket.close()
        self._frames.close()
        for _, copies in self._outgoing:
            _close_all(copies)
        self._outgoing.clear()
        self._on_closed(reason)

    def close_after_rest(self) -> None:
        """Process what the ended peer has sent, then close the channel."""
        while self._read():
            pass
        self.close()

    def _read(self) -> bool:
        """Read available bytes; return whether there may be more."""
        if self.is_closed:
            return False
        try:
            # Do not use socket.recv_fds: it drops the flag that closes the descriptors in child processes (CPython
            # 3.11).
            data, ancillary, flags, _ = self._socket.recvmsg(READ_BYTES, _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self.close(error.strerror or "it broke")
            return False
        try:
            self._frames.receive(data, _read_descriptors(ancillary))
            if flags & socket.MSG_CTRUNC:
                raise ChannelError("descriptors were lost")
            if not data:
                self.close("the other end has closed the channel")
                return False
            self._deliver()
        except ChannelError as error:
            self.close(str(error))
        return not self.is_closed

    def _deliver(self) -> None:
        while not self.is_closed and (frame := self._frames.pop()) is not None:
            self._on_message(*frame)

    def _write(self) -> None:
        while self._outgoing:
            data, sockets = self._outgoing[0]
            try:
                if sockets:
                    sent = socket.send_fds(self._socket, [data], [sock.fileno() for sock in sockets])
                else:
                    sent = self._socket.send(data)
            except (BlockingIOError, InterruptedError):
                self._start_writing()
                return
            except OSError as error:
                self.close(error.strerror or "it broke")
                return
            _close_all(sockets)  # they were sent with the first byte
            if sent < len(data):
                self._outgoing[0] = (data[sent:], ())
            else:
                self._outgoing.popleft()
        self._stop_writing()

    def _start_writing(self) -> None:
        if not self._is_writing:
            self._is_writing = True
            self._loop.add_writer(self._socket.fileno(), self._write)

    def _stop_writing(self) -> None:
        if self._is_writing:
            self._is_writing = False
            with contextlib.suppress(OSError):
                self._loop.remove_writer(self._socket.fileno())


def _read_descriptors(ancillary: Sequence[tuple[int, int, bytes]]) -> Sequence[int]:
    descriptors = array("i")
    for level, type_, data in ancillary:
        if (level, type_) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return descriptors


def _close_all(sockets: Sequence[socket.socket]) -> None:
    for sock in sockets:
        sock.close()
