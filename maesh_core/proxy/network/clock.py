"""A coarse clock, and a sweep that ends expired waits.

Time-outs need no timers: each waiting object has a deadline, and one periodic sweep checks all of them. A time-out can
therefore occur up to one TICK_S early or late.
"""

import asyncio
from collections.abc import Callable
from typing import Final

TICK_S: Final = 0.25


class Clock:
    """Provides `now`, the time of the last tick in seconds; reading it costs one attribute access."""

    __slots__ = ("_handle", "_loop", "_sweeps", "_time", "now")

    def __init__(self, loop: asyncio.AbstractEventLoop, time: Callable[[], float] | None = None) -> None:
        self._loop = loop
        self._time = time or loop.time
        self._sweeps: list[Callable[[float], None]] = []
        self._handle: asyncio.TimerHandle | None = None
        self.now = self._time()

    def __repr__(self) -> str:
        return f"<Clock {self.now:.2f} sweeps={len(self._sweeps)}>"

    def add_sweep(self, sweep: Callable[[float], None]) -> None:
        """Call `sweep(now)` at each tick."""
        self._sweeps.append(sweep)
        if self._handle is None:
            self._handle = self._loop.call_later(TICK_S, self._tick)

    def tick(self) -> None:
        """Update the time and run every sweep."""
        self.now = now = self._time()
        for sweep in self._sweeps:
            sweep(now)

    def close(self) -> None:
        """Stop ticking."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _tick(self) -> None:
        self._handle = self._loop.call_later(TICK_S, self._tick)
        self.tick()
