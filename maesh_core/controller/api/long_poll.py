"""Requests that wait for the next revision: many waiters, woken at once, each for no more than its own time.

Costs a future and a timer per waiter, no task. Knows nothing of HTTP or of revisions.
"""

import asyncio


class Waiters:
    """Who waits. Closed, it lets everybody go and nobody wait any more."""

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
        """Whether nobody waits any more."""
        return self._is_closed

    @property
    def is_full(self) -> bool:
        """Whether one more would be too many."""
        return len(self._futures) >= self._limit

    async def wait(self, timeout_s: float) -> None:
        """Return when woken, after the time, or at once when closed."""
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
        """Let everybody go who waits now."""
        for future in self._futures:
            _finish(future)

    def close(self) -> None:
        """Let everybody go, for good."""
        self._is_closed = True
        self.wake()


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
