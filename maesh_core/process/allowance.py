"""A rate limit that waits: a number of actions at once, and a number per second after them.

Takes a clock and a pause, so that it works with any time. It only waits, and never refuses an action.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable


class Allowance:
    """The actions that are allowed now. It fills up with time, to `burst` actions."""

    __slots__ = ("_burst", "_clock", "_left", "_pause", "_per_second", "_seen_at")

    def __init__(
        self,
        *,
        burst: int,
        per_second: float,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._burst = burst
        self._per_second = per_second
        self._clock = clock
        self._pause = pause
        self._left = float(burst)
        self._seen_at = clock()

    def __repr__(self) -> str:
        return f"<Allowance {self._left:g} of {self._burst}>"

    async def wait(self) -> None:
        """Wait until the next action is allowed, which counts as done."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._seen_at) * self._per_second)
        self._seen_at = now
        self._left -= 1
        if self._left < 0:
            await self._pause(-self._left / self._per_second)
