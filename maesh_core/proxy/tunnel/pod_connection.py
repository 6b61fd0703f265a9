"""The receiver's end of a stream: a socket to a pod, which is joined with the stream byte for byte.

Waits for the verdict of the rules, connects, and answers the open. Reads the socket only as far as the stream's window
and the connection allow, straight into a frame. Bytes that the pod does not accept are kept and not credited, so there
is at most one window of them. The end of one side is forwarded alone; a reset is forwarded as a reset.
"""

import asyncio
import contextlib
import errno
import select
import socket
import struct
from typing import Final

from maesh_core.plugin_system.transports import Delivery, Refusal
from maesh_core.proxy.http.http2.errors import StreamError
from maesh_core.proxy.http.http2.fields import Fields
from maesh_core.proxy.http.http2.frames import CANCEL, NO_ERROR, PROTOCOL_ERROR
from maesh_core.proxy.network.edges import EDGES, GONE
from maesh_core.proxy.tunnel.counters import INCOMING
from maesh_core.proxy.tunnel.limits import (
    CLOSING_PODS_LIMIT,
    LARGE_READS,
    POD_READS,
    SMALL_READ_BYTES,
    STREAM_WINDOW_BYTES,
)
from maesh_core.proxy.tunnel.open_fields import OPENED, render_refusal
from maesh_core.proxy.tunnel.receiver import Receiver
from maesh_core.proxy.tunnel.stream import StreamOutput, TunnelStream

_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER with zero time: closing the socket resets the connection."""
_STREAM: Final = int(socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
_BROKEN: Final = select.EPOLLHUP | select.EPOLLERR
_READABLE: Final = select.EPOLLIN | GONE
_CONNECTING: Final = frozenset({0, errno.EINPROGRESS})
_LOCAL_ERRORS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOSPC})
"""Errors with causes on this node, which are no failures of the pod."""


class PodStream(TunnelStream):
    """A stream and the socket of its pod. `deadline` limits the connect, and the last bytes of a closed stream."""

    __slots__ = (
        "_has_failed",
        "_has_write_failed",
        "_is_ending",
        "_is_open",
        "_is_readable",
        "_large_reads",
        "_receiver",
        "_sees_end",
        "_socket",
        "_unsent",
        "deadline",
        "delivery",
        "task",
    )

    def __init__(
        self, connection: StreamOutput, stream_id: int, send_window: int, *, receiver: Receiver, delivery: Delivery
    ) -> None:
        super().__init__(connection, stream_id, send_window)
        self._receiver = receiver
        self.delivery = delivery
        self.deadline = 0.0
        self.task: asyncio.Task[None] | None = None
        self._socket: socket.SocketType | None = None
        self._unsent = bytearray()
        self._is_open = self._is_readable = self._sees_end = self._is_ending = False
        self._has_failed = self._has_write_failed = False
        self._large_reads = 0
        """How many further reads use the shared buffer, because a large read came before."""

    # --- opening

    def refuse(self, refusal: Refusal) -> None:
        """Answer that the stream is not opened, and why."""
        self._has_failed = True
        self._receiver.environment.counters.count_refusal(INCOMING, refusal.status)
        self._drop_socket()
        self.send_headers(render_refusal(refusal), is_end=True)

    def connect(self) -> None:
        """Connect to the pod, and answer later."""
        address, port = self.delivery.address, self.delivery.port
        receiver = self._receiver
        try:
            self._socket = sock = socket.SocketType(socket.AF_INET6 if ":" in address else socket.AF_INET, _STREAM, 0)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if (code := sock.connect_ex((address, port))) not in _CONNECTING:
                raise OSError(code, "not connected")
            receiver.environment.sockets.watch(sock.fileno(), self._on_event, EDGES)
        except OSError as error:
            self._fail_connect(error.errno or 0)
            return
        self.deadline = receiver.environment.clock.now + receiver.environment.node.settings.connect_timeout
        receiver.waiting.add(self)

    def _fail_connect(self, code: int) -> None:
        if code in _LOCAL_ERRORS:
            self.refuse(Refusal(503, "the node has no resources for a connection"))
        elif code == errno.ETIMEDOUT:
            self.refuse(Refusal(504, "the server did not accept the connection in time"))
        else:
            self.refuse(Refusal(502, "the server refused the connection"))

    def _on_connect_event(self, events: int, sock: socket.SocketType) -> None:
        if events & _BROKEN and (code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
            self._fail_connect(code)
            return
        if not events & select.EPOLLOUT:
            return
        self._receiver.waiting.discard(self)
        self._is_open = True
        self.send_headers(OPENED)
        if events & _READABLE:
            self._read(events)

    def check(self, now: float) -> None:
        """End a wait that has lasted too long: for the connect, or for the last bytes."""
        if now < self.deadline:
            return
        if self._is_open:
            self._drop_socket(is_reset=True)
        elif self._socket is not None:
            self._fail_connect(errno.ETIMEDOUT)

    # --- events of the pod's socket

    def _on_event(self, events: int) -> None:
        self._receiver.environment.flusher.begin_event()
        sock = self._socket
        if sock is None:
            return
        if not self._is_open:
            self._on_connect_event(events, sock)
            return
        if self._unsent and events & (select.EPOLLOUT | _BROKEN):
            self._flush(sock)
        if events & _READABLE:
            self._read(events)

    def _read(self, events: int) -> None:
        self._is_readable = True
        if events & GONE:
            self._sees_end = True
        if self.connection.is_write_paused or self.pump(STREAM_WINDOW_BYTES):
            self.connection.add_blocked(self)

    def pump(self, limit: int) -> bool:
        """Read from the pod into frames, within the windows; return whether more waits for the connection."""
        sock = self._socket
        if sock is None or not self._is_readable or self.has_ended_locally or self.is_gone:
            return False
        connection = self.connection
        for _ in range(POD_READS):
            size = self._compute_room(limit)
            if size <= 0 or connection.is_write_paused:
                break
            try:
                if self._large_reads or size < SMALL_READ_BYTES:
                    count = self._pass_large(sock, size)
                else:
                    size = SMALL_READ_BYTES
                    count = self._pass_small(sock)
            except BlockingIOError:
                self._is_readable = False
                return False
            except OSError:
                self._break()
                return False
            if not count:
                self._on_pod_end()
                return False
            limit -= count
            if count < size and not self._sees_end:
                self._is_readable = False
                return False
        return self.send_window > 0

    def _compute_room(self, limit: int) -> int:
        """Return how many bytes the windows, the frame and the limit allow (comparing costs less than `min`)."""
        connection = self.connection
        size = self.send_window
        if connection.send_window < size:
            size = connection.send_window
        if connection.frame_limit < size:
            size = connection.frame_limit
        return limit if limit < size else size

    def _pass_small(self, sock: socket.SocketType) -> int:
        """Read up to SMALL_READ_BYTES into a frame; return the number of bytes. Raises OSError."""
        data = sock.recv(SMALL_READ_BYTES)
        count = len(data)
        if count:
            self.connection.put_received(self, data)
        if count == SMALL_READ_BYTES:
            self._large_reads = LARGE_READS
        return count

    def _pass_large(self, sock: socket.SocketType, size: int) -> int:
        """Read up to `size` bytes by the shared buffer; see `_pass_small`."""
        count = sock.recv_into(self._receiver.environment.scratch_payload, size)
        if count:
            self.connection.put_scratch(self, count)
        if count >= SMALL_READ_BYTES:
            self._large_reads = LARGE_READS
        elif self._large_reads:
            self._large_reads -= 1
        return count

    def _on_pod_end(self) -> None:
        self._is_readable = False
        if self._has_write_failed:  # what looks like an end is the rest of a reset
            self._break()
        else:
            self.send_end()

    def _flush(self, sock: socket.SocketType) -> None:
        """Write what the pod did not accept before, and end its side if that is due."""
        unsent = self._unsent
        while unsent:
            try:
                sent = sock.send(unsent)
            except BlockingIOError:
                return
            except OSError:
                self._on_write_failed()
                return
            del unsent[:sent]
            self.credit(sent)
        if self.is_gone:
            self._drop_socket()
        elif self._is_ending:
            self._shut_down(sock)

    def _on_write_failed(self) -> None:
        """Read what the pod has sent before its reset, such as an early answer, and forward the reset after it."""
        self.credit(len(self._unsent))
        self._unsent.clear()
        if self.is_gone:
            self._drop_socket()
            return
        self._has_write_failed = True
        self._read(GONE)

    def _shut_down(self, sock: socket.SocketType) -> None:
        try:
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._on_write_failed()

    def _break(self) -> None:
        """Forward the pod's reset."""
        self._drop_socket()
        self.reset(CANCEL)

    # --- the peer's side (see TunnelStream)

    def on_headers(self, fields: Fields) -> None:
        """Refuse further header lists: a stream of CONNECT has none."""
        raise StreamError(PROTOCOL_ERROR, "a further header list")

    def on_data(self, data: bytes | memoryview) -> None:
        """Write to the pod, and keep what it does not accept. Raises StreamError before the answer."""
        sock = self._socket
        if self._has_failed:
            return
        if sock is None or not self._is_open:
            raise StreamError(PROTOCOL_ERROR, "data before the answer")
        sent = 0
        if self._has_write_failed:
            self.credit(len(data))
            return
        if not self._unsent:
            try:
                sent = sock.send(data)
            except BlockingIOError:
                pass
            except OSError:
                self.credit(len(data))
                self._on_write_failed()
                return
            self.credit(sent)
            if sent == len(data):
                return
        self._unsent += data[sent:]

    def on_end(self) -> None:
        """End the pod's input after all bytes. Raises StreamError before the answer."""
        if self._has_failed:
            return
        sock = self._socket
        if sock is None or not self._is_open:
            raise StreamError(PROTOCOL_ERROR, "the end before the answer")
        self._is_ending = True
        if not self._unsent and not self._has_write_failed:
            self._shut_down(sock)

    def on_closed(self) -> None:
        """Close the socket once the pod has accepted the last bytes."""
        self._close_after_bytes()

    def on_reset(self, code: int) -> None:
        """Close the socket if the peer does not read any more (NO_ERROR); reset it for any other code."""
        if code == NO_ERROR and self._is_open:
            self._close_after_bytes()
        else:
            self._end(is_reset=True)

    def on_connection_lost(self) -> None:
        """Reset the pod: nobody knows whether the peer would have sent more."""
        self._end(is_reset=True)

    def cut(self) -> None:
        """Reset both sides: the connection is not allowed any more."""
        self._drop_socket(is_reset=True)
        self.reset(CANCEL)

    def _end(self, *, is_reset: bool) -> None:
        if self.task is not None:
            self.task.cancel()
        if is_reset and self._unsent and self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.send(self._unsent)
        self._drop_socket(is_reset=is_reset and self._is_open)

    def _close_after_bytes(self) -> None:
        if not self._unsent or self._socket is None:
            self._drop_socket()
            return
        receiver = self._receiver
        if len(receiver.closing) >= CLOSING_PODS_LIMIT:
            self._drop_socket(is_reset=True)
            return
        self.deadline = receiver.environment.clock.now + receiver.environment.node.settings.body_timeout
        receiver.closing.add(self)

    def _drop_socket(self, *, is_reset: bool = False) -> None:
        self._receiver.waiting.discard(self)
        self._receiver.closing.discard(self)
        sock, self._socket = self._socket, None
        self._unsent = bytearray()
        if sock is not None:
            if is_reset:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._receiver.environment.sockets.close_socket(sock)
