"""Writes batches of lines in a thread, so that a slow disk or a full pipe never blocks the event loop.

Takes whole lines. The queue is bounded: at its limit, new batches are dropped and counted. The thread and the event
loop share no lock: each counter has one side that writes it.
"""

import logging
import threading
from queue import SimpleQueue
from typing import Final

from maesh_access_log.output import Output

QUEUE_LIMIT_BYTES: Final = 8 << 20
"""Of lines that wait for the thread: at 500 bytes each, a second of 16,000 requests."""
CLOSE_LIMIT_S: Final = 0.5
"""The time to write what is left at the end; a node kills a worker that takes a second."""

_Batch = tuple[bytes, int]
"""Whole lines, and their number."""
_REOPEN: Final[_Batch] = (b"", 0)

logger = logging.getLogger(__name__)


class BatchWriter:
    """The queue, and the thread that empties it, which starts with the first batch.

    `written` counts the lines that were written. Call everything but `_run` and what it calls from the event loop.
    """

    __slots__ = (
        "_done_bytes",
        "_is_full",
        "_limit_bytes",
        "_lost",
        "_output",
        "_put_bytes",
        "_put_lines",
        "_queue",
        "_refused",
        "_thread",
        "written",
    )

    def __init__(self, output: Output, limit_bytes: int = QUEUE_LIMIT_BYTES) -> None:
        self.written = 0
        self._output = output
        self._limit_bytes = limit_bytes
        self._queue: SimpleQueue[_Batch | None] = SimpleQueue()
        self._put_bytes = self._put_lines = self._refused = 0  # only the event loop writes these
        self._done_bytes = self._lost = 0  # only the thread writes these, and `written`
        self._is_full = False
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"<BatchWriter {self._output!r} waiting={self.waiting_bytes} dropped={self.dropped}>"

    @property
    def waiting_bytes(self) -> int:
        """The size of the lines that are not written yet."""
        return self._put_bytes - self._done_bytes

    @property
    def dropped(self) -> int:
        """The number of lines that were not written, because the queue was full or a write failed."""
        return self._refused + self._lost

    def put(self, batch: bytes, lines: int) -> None:
        """Write a batch of whole lines soon, or drop it."""
        waiting = self.waiting_bytes
        if waiting + len(batch) > self._limit_bytes:
            self._refused += lines
            if not self._is_full:
                self._is_full = True
                logger.warning("access log to %s: it is too slow; records are dropped", self._output.name)
            return
        if self._is_full and not waiting:
            self._is_full = False
            logger.warning(
                "access log to %s: it is fast enough again; %d records were dropped", self._output.name, self.dropped
            )
        self._put_bytes += len(batch)
        self._put_lines += lines
        self._start().put((batch, lines))

    def reopen(self) -> None:
        """Open the file again, after what is in the queue was written."""
        self._start().put(_REOPEN)

    def close(self, limit_s: float = CLOSE_LIMIT_S) -> None:
        """Write what is in the queue, then end; give up after `limit_s`."""
        thread = self._thread
        if thread is not None:
            self._queue.put(None)
            thread.join(limit_s)
            if thread.is_alive():
                missing = self._put_lines - self.written - self._lost
                logger.warning("access log to %s: it is too slow; %d records are lost", self._output.name, missing)
                return  # the thread still uses the file, and ends with the process
        self._output.close()

    def _start(self) -> "SimpleQueue[_Batch | None]":
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
            self._thread.start()
        return self._queue

    def _run(self) -> None:
        while (batch := self._queue.get()) is not None:
            before = self._output.problem
            if batch is _REOPEN:
                self._output.reopen()
            else:
                self._write(*batch)
            self._report_change(before)

    def _write(self, batch: bytes, lines: int) -> None:
        written = self._output.write(batch, lines)
        self.written += written
        self._lost += lines - written
        self._done_bytes += len(batch)

    def _report_change(self, before: str) -> None:
        problem = self._output.problem
        if problem and problem != before:
            logger.warning("access log to %s: %s", self._output.name, problem)
        elif before and not problem:
            logger.warning(
                "access log to %s: it is written again; %d records were dropped", self._output.name, self._lost
            )
