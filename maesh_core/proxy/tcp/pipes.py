"""Pipes that bytes are spliced through: lent while bytes are in them, and used again.

The kernel moves pages from a socket into a pipe and from the pipe into another socket, and this process never sees
them (splice(2)). An unprivileged user has 16,384 pages for pipes (pipe-user-pages-soft): some of the pipes here are
large, most have the usual 64 KiB, and when no more are lent the bytes are copied.
"""

import contextlib
import fcntl
import os
from typing import NamedTuple

LARGE_BYTES = 1 << 20
LARGE_LIMIT = 32
"""Half of the pages that an unprivileged user has; workers share them."""
PIPE_LIMIT = 256
"""Pipes of one worker, lent and idle."""
IDLE_LIMIT = 64
SPLICE_FLAGS = getattr(os, "SPLICE_F_MOVE", 0) | getattr(os, "SPLICE_F_NONBLOCK", 0)


class Pipe(NamedTuple):
    """Its two descriptors."""

    source: int
    sink: int
    is_large: bool


class PipePool:
    """The pipes of a worker."""

    __slots__ = ("_count", "_idle", "_large")

    def __init__(self) -> None:
        self._idle: list[Pipe] = []
        self._count = self._large = 0

    def __repr__(self) -> str:
        """Show how many there are."""
        return f"<PipePool {self._count} pipes, {len(self._idle)} idle>"

    def take(self) -> Pipe | None:
        """Lend an empty pipe; None when there are too many, or the system has none."""
        if self._idle:
            return self._idle.pop()
        if self._count >= PIPE_LIMIT or not SPLICE_FLAGS:
            return None
        try:
            source, sink = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        is_large = False
        if self._large < LARGE_LIMIT:
            with contextlib.suppress(OSError):
                fcntl.fcntl(sink, fcntl.F_SETPIPE_SZ, LARGE_BYTES)
                is_large = True
        self._count += 1
        self._large += is_large
        return Pipe(source, sink, is_large)

    def give_back(self, pipe: Pipe, *, is_empty: bool = True) -> None:
        """Take a pipe back; one that has bytes in it goes, for they are nobody else's."""
        if is_empty and len(self._idle) < IDLE_LIMIT:
            self._idle.append(pipe)
        else:
            self._discard(pipe)

    def close(self) -> None:
        """Close all that are idle."""
        while self._idle:
            self._discard(self._idle.pop())

    def _discard(self, pipe: Pipe) -> None:
        self._count -= 1
        self._large -= pipe.is_large
        os.close(pipe.source)
        os.close(pipe.sink)
