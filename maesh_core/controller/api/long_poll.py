"""Requests that wait for the next revision: many waiters are woken at once, and each has a time-out of its own.

Each waiter costs a future and a timer, but no task. Knows nothing of HTTP or of revisions.
"""

import asyncio


class Waiters:
    """The waiters. After `close`, all are released and nobody can wait any more."""

    __slots__ = ("_futures", "_is_closed", "_limit")

    def __init__(self, limit: int) -> None:
        self._futures: set[asyncio.Future[None]] = set()
        self._limit = limit
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<Waiters {len(self._futures)} of {self._limit}{' closed' if self._is_closed else ''}>"

    def __len__(self) -> int:
        return len(self._futures)

    @property
    def is_closed(self) -> bool:
        """Whether it is closed."""
        return self._is_closed

    @property
    def is_full(self) -> bool:
        """Whether the limit of waiters is reached."""
        return len(self._futures) >= self._limit

    async def wait(self, timeout_s: float) -> None:
        """Return when woken, after the time-out, or at once if closed."""
        if self._is_closed or timeout_s <= 0:
            return
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        timer = loop.call_later(timeout_s, _finish, future)
        self._futures.add(future)
        try:
            await future
        finally:
            timer.cancel()
            self._futures.discard(future)

    def wake(self) -> None:
        """Release all current waiters."""
        for future in self._futures:
            _finish(future)

    def close(self) -> None:
        """Release all waiters, and accept no more."""
        self._is_closed = True
        self.wake()


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
