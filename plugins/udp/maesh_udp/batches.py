"""Many datagrams by one system call: recvmmsg(2) and sendmmsg(2), which Python's socket module does not have.

The memory that the calls work on is laid out once for each worker, and read and written as bytes. A client is told by
its *mark*: its socket address as the kernel writes it and, on a socket bound to all addresses, the control message with
the address that it sent to. Nothing of it is parsed on the way, and an answer leaves with the mark that it belongs to.
"""

import ctypes
import mmap
import socket
import struct
from collections.abc import Callable, Sequence

BATCH = 64
"""Datagrams of one call. nginx and others take one at a time, which costs 150 ns more for each in system calls, and
here a microsecond more in socket addresses made into text and back."""
DATAGRAM_BYTES = 65536
"""More than any datagram has (RFC 768, and RFC 8200 without jumbograms)."""
NAME_BYTES = 32
"""Room for sockaddr_in6, with the control message's alignment."""
_MARK_BYTES = 96
_IP_PKTINFO = 8
"""ip(7)."""


class _Header(ctypes.Structure):
    """struct msghdr (recvmsg(2))."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_bytes", ctypes.c_uint32),
        ("vectors", ctypes.c_void_p),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_bytes", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """struct mmsghdr (recvmmsg(2))."""

    _fields_ = (("header", _Header), ("size", ctypes.c_uint32))


class _Vector(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("data", ctypes.c_void_p), ("size", ctypes.c_size_t))


class Layout:
    """How marks of a socket's clients look: `size` bytes, of which `name_bytes` are a socket address."""

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

    def read_address(self, mark: bytes) -> str:
        """Read the client's IP address."""
        if self.name_bytes == 16:
            return socket.inet_ntop(socket.AF_INET, mark[4:8])
        return socket.inet_ntop(socket.AF_INET6, mark[8:24])

    def build_answer_mark(self, mark: bytes) -> bytes:
        """Build the mark of answers: they leave from the address that was sent to, by whatever way leads there."""
        if not self.control_bytes:
            return mark
        place = NAME_BYTES + socket.CMSG_LEN(0) + (16 if self.name_bytes == 28 else 0)
        return mark[:place] + struct.pack("=i", 0) + mark[place + 4 :]  # no interface


class _Batch:
    """The memory of one direction."""

    def __init__(self, function: Callable[..., int]) -> None:
        self._function = function
        self._messages = (_Message * BATCH)()
        self._vectors = (_Vector * BATCH)()
        # A mapping: pages are resident once datagrams have used them. ctypes writes zeros to all of a buffer, 4 MiB.
        self._data = mmap.mmap(-1, BATCH * DATAGRAM_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._names = ctypes.create_string_buffer(BATCH * _MARK_BYTES)
        data = ctypes.addressof(ctypes.c_char.from_buffer(self._data))
        names = ctypes.addressof(self._names)
        for index, (message, vector) in enumerate(zip(self._messages, self._vectors, strict=True)):
            vector.data, vector.size = data + index * DATAGRAM_BYTES, DATAGRAM_BYTES
            message.header.vectors = ctypes.addressof(vector)
            message.header.vector_count = 1
            message.header.name = names + index * _MARK_BYTES
        view = memoryview(self._data)
        self.slots = [view[start : start + DATAGRAM_BYTES] for start in range(0, len(view), DATAGRAM_BYTES)]
        self.marks: Sequence[memoryview] = ()
        self._layout: tuple[int, int] | None = None
        self._template = b""
        self._first = ctypes.addressof(self._messages)
        self._headers = memoryview(self._messages).cast("B")

    def set_layout(self, layout: Layout) -> None:
        """Have marks be of a socket's layout from now on; costs nothing where they are."""
        wanted = (layout.name_bytes, layout.control_bytes)
        if wanted == self._layout:
            return
        self._layout = wanted
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
    """Datagrams as they came: after `receive`, each has its mark, its slot, and its size in `sizes`."""

    def __init__(self) -> None:
        super().__init__(_load("recvmmsg"))
        self.sizes = (
            memoryview(self._messages).cast("B").cast("I")[_Message.size.offset // 4 :: ctypes.sizeof(_Message) // 4]
        )

    def receive(self, descriptor: int, layout: Layout) -> int:
        """Receive what there is, some at most; gives how many."""
        self.set_layout(layout)
        if layout.control_bytes:
            self._headers[:] = self._template  # the kernel wrote how long control messages were
        return max(0, self._function(descriptor, self._first, BATCH, socket.MSG_DONTWAIT, None))


class Outbox(_Batch):
    """Datagrams to be sent: who fills a slot writes its mark and its size, and counts it."""

    def __init__(self) -> None:
        super().__init__(_load("sendmmsg"))
        self.count = 0
        self.sizes = memoryview(self._vectors).cast("B").cast("L")[1::2]  # size_t, wherever Linux runs

    def send(self, descriptor: int) -> tuple[int, int]:
        """Send all; gives how many went out, and how many bytes. What cannot be sent is lost alone."""
        count, self.count = self.count, 0
        position = sent = sent_bytes = 0
        while position < count:
            done = self._function(
                descriptor, self._first + position * ctypes.sizeof(_Message), count - position, socket.MSG_DONTWAIT
            )
            if done <= 0:
                position += 1
                continue
            sent += done
            sent_bytes += sum(self.sizes[position : position + done])
            position += done
        return sent, sent_bytes


def _load(name: str) -> Callable[..., int]:
    function = getattr(ctypes.CDLL(None, use_errno=True), name)
    function.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)
    if name == "recvmmsg":
        function.argtypes = (*function.argtypes, ctypes.c_void_p)
    function.restype = ctypes.c_int
    return function  # type: ignore[no-any-return]
