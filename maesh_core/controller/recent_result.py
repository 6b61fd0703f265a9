"""A result that several callers share: it is made on request, and used for a while.

Takes a function that makes the result. A caller that leaves does not end the work that others wait for. Does no I/O.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

ResultT = TypeVar("ResultT")

FRESH_S = 1.0
"""How long a result is used; longer if it took longer, so that the work takes at most half of the time."""


class RecentResult(Generic[ResultT]):
    """The latest result, or the work on the next one. Close it when done."""

    __slots__ = ("_clock", "_fresh_until_s", "_make", "_task")

    def __init__(
        self, make: Callable[[], Coroutine[Any, Any, ResultT]], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._make = make
        self._clock = clock
        self._task: asyncio.Task[ResultT] | None = None
        self._fresh_until_s = 0.0

    def __repr__(self) -> str:
        return f"<RecentResult {'none' if self._task is None else 'made' if self._task.done() else 'in work'}>"

    async def get(self) -> ResultT:
        """Return a result that is at most FRESH_S old; raises what making it raises."""
        task = self._task
        if task is None or (task.done() and self._clock() >= self._fresh_until_s):
            task = self._task = asyncio.create_task(self._work())
        return await asyncio.shield(task)

    async def close(self) -> None:
        """End the work, if there is any."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _work(self) -> ResultT:
        started_s = self._clock()
        try:
            return await self._make()
        finally:
            now_s = self._clock()
            self._fresh_until_s = now_s + max(FRESH_S, now_s - started_s)
