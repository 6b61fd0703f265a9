"""One direction of a connection: moves bytes from one socket to another, at the speed of the slower one.

Short reads are copied: a small message takes two system calls. After a read that fills the buffer, bytes are spliced
through a pipe, which is borrowed while it contains bytes. Both sockets are watched edge-triggered, so `pump` continues
until one side blocks or the turn is over.
"""

import errno
import os
import socket

from maesh_core.proxy.tcp.pipes import SPLICE_FLAGS, Pipe, PipePool

BUFFER_BYTES = 65536
SPLICE_BYTES = 1 << 20
SMALL_BYTES = 16384
"""A flow returns to copying when its splices move fewer bytes than this."""
TURN_BYTES = 4 << 20
"""The bytes that one flow may move before other flows have their turn."""


class Flow:
    """Moves bytes from `source` to `target`. `buffer` and `pipes` belong to the worker."""

    __slots__ = (
        "_buffer",
        "_held",
        "_is_bulk",
        "_pipe",
        "_pipes",
        "_rest",
        "has_ended",
        "is_done",
        "is_ending",
        "moved_bytes",
        "source",
        "target",
    )

    def __init__(
        self, source: socket.SocketType, target: socket.SocketType, buffer: memoryview, pipes: PipePool
    ) -> None:
        self.source, self.target = source, target
        self._buffer, self._pipes = buffer, pipes
        self._rest: memoryview | None = None
        self._pipe: Pipe | None = None
        self._held = 0
        self._is_bulk = False
        self.is_ending = False
        """Whether the source has announced its end: after a short read there may then still be something to read."""
        self.has_ended = False
        self.is_done = False
        """Whether the end was forwarded, after all bytes."""
        self.moved_bytes = 0
        """Bytes read from the source; the caller that counts them may reset it between two turns."""

    def __repr__(self) -> str:
        """Show the progress."""
        return f"<Flow {self.moved_bytes} bytes, ended={self.has_ended} done={self.is_done}>"

    @property
    def is_blocked(self) -> bool:
        """Whether bytes wait for the target, so that no more are read."""
        return self._rest is not None or self._held > 0

    def pump(self, *, with_end: bool = True, is_last: bool = False) -> bool:
        """Move bytes until a side blocks; return True if the turn ended first. Raises OSError if a side was reset.

        Set `with_end` to False after a reset, so that truncated data does not look complete. Set `is_last` for the last
        flow of a connection: the caller then closes the target, which also forwards the end.
        """
        turn_ends_at = self.moved_bytes + TURN_BYTES
        while not self.is_done:
            if (self._rest is not None or self._pipe is not None) and not self._flush():
                return False
            if self.has_ended:
                if not with_end:
                    return False
                self.is_done = True
                if not is_last:
                    self._end_target()
                return False
            if self.moved_bytes >= turn_ends_at:
                return True
            if not (self._splice() if self._is_bulk else self._copy()):
                return False
        return False

    def close(self) -> None:
        """Return the pipe."""
        if self._pipe is not None:
            self._pipes.release(self._pipe, is_empty=not self._held)
            self._pipe, self._held = None, 0

    def _copy(self) -> bool:
        """Read once and write once; return False if nothing more can be read now."""
        buffer = self._buffer
        try:
            count = self.source.recv_into(buffer)
        except BlockingIOError:
            return False
        if not count:
            self.has_ended = True
            return True
        self.moved_bytes += count
        try:
            sent = self.target.send(buffer[:count])
        except BlockingIOError:
            sent = 0
        if sent < count:
            self._rest = memoryview(bytes(buffer[sent:count]))
        if count == len(buffer):
            self._is_bulk = True
            return True
        return self._rest is not None or self.is_ending

    def _splice(self) -> bool:
        """Move bytes into a pipe; return False if nothing more can be read now."""
        pipe = self._pipe or self._pipes.acquire()
        if pipe is None:
            return self._copy()
        self._pipe = pipe
        try:
            count = os.splice(self.source.fileno(), pipe.sink, SPLICE_BYTES, flags=SPLICE_FLAGS)
        except BlockingIOError:
            self.close()
            return False
        except OSError as error:
            self.close()
            if error.errno != errno.EINVAL:
                raise
            self._is_bulk = False
            return True
        if not count:
            self.has_ended = True
            self.close()
            return True
        self._held = count
        self.moved_bytes += count
        self._is_bulk = count >= SMALL_BYTES
        return True

    def _flush(self) -> bool:
        """Write the bytes that were read before; return False if the target blocks."""
        while self._held and self._pipe is not None:
            try:
                self._held -= os.splice(self._pipe.source, self.target.fileno(), self._held, flags=SPLICE_FLAGS)
            except BlockingIOError:
                return False
        if self._pipe is not None and not self._is_bulk:
            self.close()
        if self._rest is not None:
            try:
                sent = self.target.send(self._rest)
            except BlockingIOError:
                return False
            if sent < len(self._rest):
                self._rest = self._rest[sent:]
                return False
            self._rest = None
        return True

    def _end_target(self) -> None:
        try:
            self.target.shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:  # the target is gone; the other flow will detect that
                raise
