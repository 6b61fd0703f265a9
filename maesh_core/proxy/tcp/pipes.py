"""Pipes for splice(2), borrowed while they contain bytes, then reused.

The kernel moves pages from a socket into a pipe and from there into another socket; this process never copies them. An
unprivileged user may use 16,384 pages for pipes (pipe-user-pages-soft). Some pipes here are large, most have the
default 64 KiB, and when no more are available, bytes are copied instead.
"""

import contextlib
import fcntl
import os
from typing import NamedTuple

LARGE_BYTES = 1 << 20
LARGE_LIMIT = 32
"""Large pipes of all workers use at most half of the pages that an unprivileged user may have."""
PIPE_LIMIT = 256
"""Pipes of one worker, borrowed and idle."""
IDLE_LIMIT = 64
SPLICE_FLAGS = getattr(os, "SPLICE_F_MOVE", 0) | getattr(os, "SPLICE_F_NONBLOCK", 0)


class Pipe(NamedTuple):
    """The two descriptors of a pipe."""

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
        """Show how many pipes there are."""
        return f"<PipePool {self._count} pipes, {len(self._idle)} idle>"

    def acquire(self) -> Pipe | None:
        """Return an empty pipe; None if the limit is reached or the system provides none."""
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

    def release(self, pipe: Pipe, *, is_empty: bool = True) -> None:
        """Take a pipe back. A pipe that still contains bytes is closed, since they belong to one connection."""
        if is_empty and len(self._idle) < IDLE_LIMIT:
            self._idle.append(pipe)
        else:
            self._discard(pipe)

    def close(self) -> None:
        """Close all idle pipes."""
        while self._idle:
            self._discard(self._idle.pop())

    def _discard(self, pipe: Pipe) -> None:
        self._count -= 1
        self._large -= pipe.is_large
        os.close(pipe.source)
        os.close(pipe.sink)
