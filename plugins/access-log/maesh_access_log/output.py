"""Where lines are written: standard output or a file, which is opened again after it was rotated.

Used by the writer's thread alone, since every call may block; only the constructor runs before the thread. Several
workers write to one place: to a file by appending under a lock, to a pipe in pieces that the kernel never mixes with
others. The lock shows whether the last line of a file is whole: a worker may have been killed while it wrote.
"""

import contextlib
import errno
import fcntl
import os
import select
import stat
from collections.abc import Iterator
from typing import Final

PIECE_BYTES: Final = select.PIPE_BUF
"""A pipe passes a write of at most this size on as a whole (POSIX). texts.py limits lines to it."""
STANDARD_OUTPUT: Final = 1
NOT_OPEN: Final = -1
FILE_MODE: Final = 0o640
"""Of a new file: the log shows who calls what, so other users of the machine cannot read it."""


class Output:
    """A destination; standard output if `path` is empty. The constructor raises OSError if it cannot be written.

    A file that does not exist is created by the first write: a command that only describes plugins creates none.
    `problem` is what the last call could not do, for the log; otherwise it is empty.
    """

    __slots__ = ("_descriptor", "_is_file", "_is_torn", "path", "problem")

    def __init__(self, path: str) -> None:
        self.path = path
        self.problem = ""
        self._is_torn = False
        self._descriptor = STANDARD_OUTPUT if not path else _open_existing(path)
        self._is_file = self._descriptor != NOT_OPEN and _is_file(self._descriptor)

    def __repr__(self) -> str:
        return f"<Output {self.name} {self.problem!r}>"

    @property
    def name(self) -> str:
        """The destination as a person would call it."""
        return self.path or "standard output"

    def write(self, batch: bytes, lines: int) -> int:
        """Write that many whole lines; return how many of them were written, and set `problem`."""
        if self._is_rotated():
            self.reopen()
        else:
            self.problem = ""
        if self._descriptor == NOT_OPEN:
            return 0
        written = 0
        try:
            with self._lock():
                if self._is_torn:  # end the line that a failed write left unfinished
                    self._write_all(b"\n")
                    self._is_torn = False
                for piece in [batch] if self._is_file else split_lines(batch):
                    written += self._write_all(piece)
        except _CutWriteError as error:
            self.problem = f"cannot write: {error.strerror}; records are dropped"
            return batch.count(b"\n", 0, written + error.count)
        return lines  # counting them would look at each byte

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Let no other worker append to the file meanwhile, and find out whether its last line is whole."""
        if not (self._is_file and self.path):
            yield
            return
        with contextlib.suppress(OSError):  # some file systems have no locks
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            self._is_torn = _ends_within_line(self._descriptor, unknown=self._is_torn)
            yield
        finally:
            with contextlib.suppress(OSError):
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def reopen(self) -> None:
        """Open the file again by its path, and set `problem`. If that fails, the open file is used further."""
        if not self.path:
            return
        try:
            opened = _open(self.path)
        except OSError as error:
            is_open = self._descriptor != NOT_OPEN
            rest = "the file that was moved or removed is used further" if is_open else "records are dropped"
            self.problem = f"cannot open it{' again' * is_open}: {error.strerror}; {rest}"
            return
        self.close()
        self._descriptor = opened
        self._is_file = _is_file(opened)
        self._is_torn = False
        self.problem = ""

    def close(self) -> None:
        """Close the file; standard output stays open."""
        if self.path and self._descriptor != NOT_OPEN:
            with contextlib.suppress(OSError):  # such as EIO for lines written before; the descriptor is closed anyway
                os.close(self._descriptor)

    def _is_rotated(self) -> bool:
        """Whether the path now leads to another file, or to none."""
        if not self.path:
            return False
        if self._descriptor == NOT_OPEN:
            return True
        try:
            named = os.stat(self.path)
        except OSError:
            return True
        return not os.path.samestat(named, os.fstat(self._descriptor))

    def _write_all(self, piece: bytes) -> int:
        """Write a piece, and return its size; raises _CutWriteError."""
        rest = memoryview(piece)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # another process has made the pipe that it shares non-blocking
                poller = select.poll()
                poller.register(self._descriptor, select.POLLOUT)
                poller.poll()
            except OSError as error:
                count = len(piece) - len(rest)
                self._is_torn = self._is_torn or bool(count and piece[count - 1] != ord("\n"))
                raise _CutWriteError(error, count) from error
        return len(piece)


class _CutWriteError(OSError):
    """A write failed after `count` bytes."""

    def __init__(self, error: OSError, count: int) -> None:
        super().__init__(error.errno, error.strerror)
        self.count = count


def split_lines(batch: bytes, limit: int = PIECE_BYTES) -> list[bytes]:
    """Split whole lines into pieces of whole lines, each of at most `limit` bytes."""
    pieces, start = [], 0
    while start < len(batch):
        end = batch.rfind(b"\n", start, start + limit) + 1
        pieces.append(batch[start:end])
        start = end
    return pieces


def _open(path: str, flags: int = os.O_CREAT) -> int:
    """Open a file for appending. A pipe that nobody reads is an error, instead of a wait for a reader."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK | flags, FILE_MODE)
    os.set_blocking(descriptor, True)
    return descriptor


def _open_existing(path: str) -> int:
    """Open a file, or return NOT_OPEN if it does not exist and can be created."""
    try:
        return _open(path, 0)
    except FileNotFoundError:
        folder = os.path.dirname(path) or "."
        if not os.path.isdir(folder):
            raise
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path) from None
        return NOT_OPEN


def _ends_within_line(descriptor: int, *, unknown: bool) -> bool:
    """Whether the last byte of a file is no line feed; `unknown` if the file cannot be read."""
    size = os.fstat(descriptor).st_size
    try:
        readable = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return unknown
    try:
        return size > 0 and os.pread(readable, 1, size - 1) not in (b"\n", b"")
    finally:
        os.close(readable)


def _is_file(descriptor: int) -> bool:
    return stat.S_ISREG(os.fstat(descriptor).st_mode)
