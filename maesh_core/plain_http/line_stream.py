"""A body that is a stream of lines, for one client that watches: a queue that is bounded, and a sign of life.

Takes lines without waiting: above the limit they are dropped and counted, and the client is sent
the count. While there is nothing to say, empty lines show that the connection is alive, and find out if it is not.
"""

import asyncio
from collections import deque
from collections.abc import Callable

LINES_LIMIT = 1000
LIMIT_BYTES = 1024 * 1024
"""Limits of the lines that wait for a client that reads slowly. An ordinary line of a tap has half a kilobyte."""
HEARTBEAT_S = 3.0
"""After so long without a line, an empty line is sent."""
BATCH_BYTES = 64 * 1024
"""Lines that wait are sent together, up to about this size."""


class LineStream:
    """The lines for one client. Implements messages.BodyStream.

    `render_dropped` makes the line that says how many were dropped; `on_close` is called once, when the client has left
    or everything is sent.
    """

    __slots__ = (
        "_dropped",
        "_has_news",
        "_heartbeat_s",
        "_is_finished",
        "_limit",
        "_limit_bytes",
        "_lines",
        "_on_close",
        "_render",
        "_size_bytes",
    )

    def __init__(
        self,
        render_dropped: Callable[[int], bytes],
        *,
        on_close: Callable[[], None] = lambda: None,
        limit: int = LINES_LIMIT,
        limit_bytes: int = LIMIT_BYTES,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self._lines: deque[bytes] = deque()
        self._dropped = 0
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._size_bytes = 0
        self._heartbeat_s = heartbeat_s
        self._render = render_dropped
        self._on_close: Callable[[], None] | None = on_close
        self._has_news = asyncio.Event()
        self._is_finished = False

    def __repr__(self) -> str:
        return f"<LineStream {len(self._lines)} lines, {self._dropped} dropped>"

    def put(self, line: bytes) -> bool:
        """Add a line, which ends in a line feed, or drop it if too many wait; return whether it was added."""
        if self._is_finished:
            return False
        if len(self._lines) >= self._limit or self._size_bytes + len(line) > self._limit_bytes:
            self.note_dropped(1)
            return False
        self._lines.append(line)
        self._size_bytes += len(line)
        self._has_news.set()
        return True

    def note_dropped(self, count: int) -> None:
        """Note that `count` lines were dropped, here or before."""
        if count > 0 and not self._is_finished:
            self._dropped += count
            self._has_news.set()

    def finish(self) -> None:
        """End the stream after the lines that wait."""
        self._is_finished = True
        self._has_news.set()

    def close(self) -> None:
        """Release everything, because the client has left or everything is sent."""
        self.finish()
        self._lines.clear()
        self._size_bytes = 0
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close()

    async def __anext__(self) -> bytes:
        """Return the lines that wait, or an empty line after a while without any."""
        try:
            async with asyncio.timeout(self._heartbeat_s):
                await self._has_news.wait()
        except TimeoutError:
            return b"\n"
        part = bytearray()
        while self._lines and len(part) < BATCH_BYTES:
            line = self._lines.popleft()
            self._size_bytes -= len(line)
            part += line
        if not self._lines:
            if self._dropped:
                part += self._render(self._dropped)
                self._dropped = 0
            if self._is_finished and not part:
                raise StopAsyncIteration
            if not self._is_finished:
                self._has_news.clear()
        return bytes(part)
