"""Many datagrams with one system call: recvmmsg(2) and sendmmsg(2), which Python's socket module does not have.

The memory of the calls is laid out once for each worker, and read and written as bytes. A client is identified by its
*mark*: its socket address as the kernel writes it and, on a socket bound to all addresses, the control message with the
address to which it sent. Marks are not parsed, and an answer is sent with the mark of its client.
"""

import ctypes
import errno
import mmap
import os
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Final

from maesh_udp.structures import Message, Vector

BATCH: Final = 64
"""Datagrams of one call. nginx and others receive one at a time, which costs 150 ns more for each in system calls. Here
it would also cost a microsecond to convert socket addresses to text and back."""
DATAGRAM_BYTES: Final = 65536
"""More than the largest datagram (RFC 768, and RFC 8200 without jumbograms)."""
NAME_BYTES: Final = 32
"""Room for sockaddr_in6, with the control message's alignment."""
_MARK_BYTES: Final = 96
_IP_PKTINFO = 8
"""ip(7)."""
_LATER: Final = frozenset({errno.EAGAIN, errno.EINTR})
_DONT_WAIT: Final = int(socket.MSG_DONTWAIT)


class Layout:
    """The layout of the marks of a socket's clients: `size` bytes, of which `name_bytes` are a socket address."""

    __slots__ = ("control_bytes", "name_bytes", "size")

    def __init__(self, sock: socket.socket) -> None:
        is_ipv6 = sock.family == socket.AF_INET6
        self.name_bytes = 28 if is_ipv6 else 16
        self.control_bytes = 0
        if sock.getsockname()[0] in ("0.0.0.0", "::"):  # noqa: S104 - asked, not bound
            if is_ipv6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            else:
                sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
            self.control_bytes = socket.CMSG_SPACE(20 if is_ipv6 else 12)
        self.size = NAME_BYTES + self.control_bytes if self.control_bytes else self.name_bytes

    def __repr__(self) -> str:
        return f"<Layout of {self.size} bytes>"

    def is_like(self, other: "Layout") -> bool:
        """Whether marks of both have the same layout."""
        return (self.name_bytes, self.control_bytes) == (other.name_bytes, other.control_bytes)

    def read_address(self, mark: bytes) -> str:
        """Read the client's IP address."""
        if self.name_bytes == 16:
            return socket.inet_ntop(socket.AF_INET, mark[4:8])
        return socket.inet_ntop(socket.AF_INET6, mark[8:24])

    def build_answer_mark(self, mark: bytes) -> bytes:
        """Build the mark of answers: they are sent from the address to which the client sent, over any interface."""
        if not self.control_bytes:
            return mark
        place = NAME_BYTES + socket.CMSG_LEN(0) + (16 if self.name_bytes == 28 else 0)
        return mark[:place] + struct.pack("=i", 0) + mark[place + 4 :]  # no interface


class _Batch:
    """The memory of one direction."""

    def __init__(self, function: Callable[..., int]) -> None:
        self._function = function
        self._messages = (Message * BATCH)()
        self._vectors = (Vector * BATCH)()
        # A mapping, because its pages are resident only after use. ctypes would write zeros to the whole buffer, 4 MiB.
        self._data = mmap.mmap(-1, BATCH * DATAGRAM_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._names = ctypes.create_string_buffer(BATCH * _MARK_BYTES)
        self._address = data = ctypes.addressof(ctypes.c_char.from_buffer(self._data))
        names = ctypes.addressof(self._names)
        for index, (message, vector) in enumerate(zip(self._messages, self._vectors, strict=True)):
            vector.data, vector.size = data + index * DATAGRAM_BYTES, DATAGRAM_BYTES
            message.header.vectors = ctypes.addressof(vector)
            message.header.vector_count = 1
            message.header.name = names + index * _MARK_BYTES
        view = memoryview(self._data)
        self.slots = [view[start : start + DATAGRAM_BYTES] for start in range(0, len(view), DATAGRAM_BYTES)]
        self.marks: Sequence[memoryview] = ()
        self._layout: Layout | None = None
        self._has_control = False
        self._template = b""
        self._first = ctypes.c_void_p(ctypes.addressof(self._messages))
        self._headers = memoryview(self._messages).cast("B")

    def set_layout(self, layout: Layout) -> None:
        """Switch to the layout of a socket; costs nothing if it is the same."""
        known = self._layout
        if known is layout:
            return
        self._layout = layout
        if known is not None and known.is_like(layout):
            return
        self._has_control = bool(layout.control_bytes)
        names = ctypes.addressof(self._names)
        view = memoryview(self._names).cast("B")
        view[:] = bytes(len(view))
        self.marks = [view[start : start + layout.size] for start in range(0, len(view), _MARK_BYTES)]
        for index, message in enumerate(self._messages):
            message.header.name_bytes = layout.name_bytes
            message.header.control_bytes = layout.control_bytes
            control = names + index * _MARK_BYTES + NAME_BYTES
            message.header.control = control if layout.control_bytes else None
        self._template = self._headers.tobytes()


class Inbox(_Batch):
    """Received datagrams: after `receive`, each has its mark, its slot, and its size in `sizes`."""

    def __init__(self) -> None:
        super().__init__(_load("recvmmsg"))
        self.sizes = _view_sizes(self._messages)

    def receive(self, descriptor: int, layout: Layout) -> int:
        """Receive the waiting datagrams, up to a batch; returns how many."""
        self.set_layout(layout)
        if self._has_control:
            self._headers[:] = self._template  # the kernel overwrote the lengths of the control messages
        count = self._function(descriptor, self._first, BATCH, _DONT_WAIT, None)
        return count if count > 0 else 0


class Outbox(_Batch):
    """Answers to send: `receive` writes them into slots with the client's mark, and `send` sends all of them."""

    def __init__(self) -> None:
        super().__init__(_load("sendmmsg"))
        self.count = 0
        self.sizes = memoryview(self._vectors).cast("B").cast("L")[1::2]  # size_t, wherever Linux runs
        self._receive = _load("recvmmsg")
        self._arrivals = (Message * BATCH)()
        self._rooms = (Vector * BATCH)()
        """The same slots with room for a whole datagram, without addresses, because the server's address is known."""
        data = self._address
        for index, (message, room) in enumerate(zip(self._arrivals, self._rooms, strict=True)):
            room.data, room.size = data + index * DATAGRAM_BYTES, DATAGRAM_BYTES
            message.header.vectors, message.header.vector_count = ctypes.addressof(room), 1
        self._places = [ctypes.c_void_p(ctypes.addressof(each)) for each in self._arrivals]
        self._arrived_sizes = _view_sizes(self._arrivals)

    def receive(self, descriptor: int, mark: bytes, *, limit: int) -> int:
        """Receive up to `limit` answers for a client from a connected socket, after the waiting ones; returns how many.

        Raises OSError if the kernel reports an error, and `IndexError` if no slot is left.
        """
        begin = self.count
        room = BATCH - begin
        count = self._receive(descriptor, self._places[begin], limit if limit < room else room, _DONT_WAIT, None)
        if count < 0:
            code = ctypes.get_errno()
            if code in _LATER:
                return 0
            raise OSError(code, os.strerror(code))
        marks, sizes, arrived_sizes = self.marks, self.sizes, self._arrived_sizes
        for index in range(begin, begin + count):
            marks[index][:] = mark
            sizes[index] = arrived_sizes[index]
        self.count = begin + count
        return count

    def receive_one(self, receive_into: Callable[[memoryview], int], mark: bytes) -> int:
        """Receive one answer with `recv_into` of the socket, which takes half as long; otherwise like `receive`."""
        index = self.count
        try:
            self.sizes[index] = receive_into(self.slots[index])
        except BlockingIOError:
            return 0
        self.marks[index][:] = mark
        self.count = index + 1
        return 1

    def send(self, descriptor: int) -> tuple[int, int]:
        """Send all; returns how many were sent, and how many bytes. Only datagrams that cannot be sent are lost."""
        count, self.count = self.count, 0
        first, position, sent, sent_bytes = self._first, 0, 0, 0
        while position < count:
            if position:
                first = ctypes.c_void_p(ctypes.addressof(self._messages[position]))
            done = self._function(descriptor, first, count - position, _DONT_WAIT)
            if done > 0:
                sent += done
                sizes = self.sizes
                sent_bytes += sizes[position] if done == 1 else sum(sizes[position : position + done])
                position += done
            else:
                position += 1
        return sent, sent_bytes


def _view_sizes(messages: "ctypes.Array[Message]") -> memoryview:
    """View the sizes of the received datagrams."""
    return memoryview(messages).cast("B").cast("I")[Message.size.offset // 4 :: ctypes.sizeof(Message) // 4]


def _load(name: str) -> Callable[..., int]:
    """Load a function that returns an int. Its arguments (int, `c_void_p`, None) are not declared to save 0.3 us."""
    return getattr(ctypes.CDLL(None, use_errno=True), name)  # type: ignore[no-any-return]
