"""Time limits of what usually ends in time, without a timer for each.

Those with the same limit wait in one queue, in the order in which they began, so the oldest ends first: a queue needs
one timer, which is set for its oldest when the one before has expired. Adding to a queue and leaving it makes no call
of the event loop. Unlike the waits of clock.py, a limit ends to the precision of the loop's timers.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

QUEUES: Final = 64
"""Limits that have a queue. A limit beyond that, or one that a client chooses, has a timer of its own."""
EARLY_S: Final = 0.002
"""A timer ends what is late within this time, because the loop's time counts whole milliseconds."""


class TimeLimitQueue:
    """Those that wait for the end of one limit. A queue that is not `shared` has only one, and ends with it."""

    __slots__ = ("_expire", "_is_shared", "_read_time", "_seconds", "_timer", "_waiting")

    def __init__(
        self, seconds: float, expire: Callable[[Any], None], read_time: Callable[[], float], *, is_shared: bool
    ) -> None:
        self._seconds = seconds
        self._expire = expire
        self._read_time = read_time
        self._is_shared = is_shared
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: dict[object, float] = {}

    def __repr__(self) -> str:
        return f"<TimeLimitQueue of {self._seconds} s, {len(self._waiting)} waiting>"

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and no timer runs."""
        return self._timer is None and not self._waiting

    def add(self, waiting: object, now: float) -> None:
        """Let the limit of `waiting` begin now. It must not be in the queue yet."""
        self._waiting[waiting] = now + self._seconds
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._on_timer)

    def end(self, waiting: object) -> None:
        """End the limit of `waiting`, if it waits, so that it never expires."""
        self._waiting.pop(waiting, None)
        if not self._is_shared and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        waiting, now = self._waiting, self._read_time()
        while late := self._list_late(now):
            for each, ends in late:
                if waiting.get(each) == ends:  # the end of another one may have ended it
                    del waiting[each]
                    self._expire_one(each)
        self._timer = None
        for ends in waiting.values():
            self._timer = asyncio.get_running_loop().call_later(ends - now, self._on_timer)
            return

    def _list_late(self, now: float) -> list[tuple[object, float]]:
        """List the oldest ones that are late. Asking for the oldest after each removal would pass all removed ones."""
        late: list[tuple[object, float]] = []
        for each, ends in self._waiting.items():
            if self._is_shared and ends - now > EARLY_S:
                break
            late.append((each, ends))
        return late

    def _expire_one(self, late: object) -> None:
        try:
            self._expire(late)
        except Exception as error:  # one that fails must not keep the others from their end
            problem = {"message": f"the end of a time limit failed: {late!r}", "exception": error}
            asyncio.get_running_loop().call_exception_handler(problem)


class TimeLimits:
    """The limits of one kind; `expire` is called with what is late. Create it inside a running event loop."""

    __slots__ = ("_expire", "_queues", "_read_time")

    def __init__(self, expire: Callable[[Any], None], read_time: Callable[[], float]) -> None:
        self._expire = expire
        self._read_time = read_time
        self._queues: dict[float, TimeLimitQueue] = {}

    def __repr__(self) -> str:
        return f"<TimeLimits {list(self._queues.values())!r}>"

    def begin(self, waiting: object, seconds: float, now: float) -> TimeLimitQueue:
        """Let `waiting` expire in so many seconds, unless it ends in the queue that this returns."""
        queue = self._queues.get(seconds)
        if queue is None:
            queue = self._open(seconds)
        queue.add(waiting, now)
        return queue

    def begin_alone(self, waiting: object, seconds: float, now: float) -> TimeLimitQueue:
        """As `begin`, for limits of which each may have a value of its own."""
        queue = TimeLimitQueue(seconds, self._expire, self._read_time, is_shared=False)
        queue.add(waiting, now)
        return queue

    def _open(self, seconds: float) -> TimeLimitQueue:
        queues = self._queues
        if len(queues) >= QUEUES:
            for known in [known for known, queue in queues.items() if queue.is_idle]:
                del queues[known]
        is_shared = len(queues) < QUEUES
        queue = TimeLimitQueue(seconds, self._expire, self._read_time, is_shared=is_shared)
        if is_shared:
            queues[seconds] = queue
        return queue
