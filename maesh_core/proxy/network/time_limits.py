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


class TimeLimit:
    """The limit of one that waits, and a link of its queue; `ends_at` is in seconds of the loop's time.

    A queue links these objects, and is no dict, because compiled code then needs no objects for the times.
    """

    __slots__ = ("earlier", "ends_at", "later", "queue", "waiting")

    def __init__(self, queue: "TimeLimitQueue", waiting: object, ends_at: float) -> None:
        self.queue: TimeLimitQueue | None = queue
        self.waiting = waiting
        self.ends_at = ends_at
        self.earlier: TimeLimit | None = None
        self.later: TimeLimit | None = None

    def __repr__(self) -> str:
        return f"<TimeLimit until {self.ends_at:.3f} {'over' if self.queue is None else 'waiting'}>"

    def end(self) -> None:
        """End it, so that it never expires; if it is over, do nothing."""
        queue = self.queue
        if queue is not None:
            self.queue = None
            queue.remove(self)


class TimeLimitQueue:
    """The limits of one length, the oldest first. A queue that is not `shared` has only one, and ends with it."""

    __slots__ = ("_expire", "_first", "_is_shared", "_last", "_read_time", "_timer", "seconds")

    def __init__(
        self, seconds: float, expire: Callable[[Any], None], read_time: Callable[[], float], *, is_shared: bool
    ) -> None:
        self.seconds = seconds
        self._expire = expire
        self._read_time = read_time
        self._is_shared = is_shared
        self._timer: asyncio.TimerHandle | None = None
        self._first: TimeLimit | None = None
        self._last: TimeLimit | None = None

    def __repr__(self) -> str:
        return f"<TimeLimitQueue of {self.seconds} s, {'idle' if self.is_idle else 'in use'}>"

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and no timer runs."""
        return self._timer is None and self._first is None

    def add(self, waiting: object, now: float) -> TimeLimit:
        """Let the limit of `waiting` begin now."""
        limit = TimeLimit(self, waiting, now + self.seconds)
        last = self._last
        if last is None:
            self._first = limit
        else:
            last.later = limit
            limit.earlier = last
        self._last = limit
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self.seconds, self._on_timer)
        return limit

    def remove(self, limit: TimeLimit) -> None:
        """Remove a limit that waits."""
        self._unlink(limit)
        if not self._is_shared and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _unlink(self, limit: TimeLimit) -> None:
        earlier, later = limit.earlier, limit.later
        if earlier is None:
            self._first = later
        else:
            earlier.later = later
            limit.earlier = None
        if later is None:
            self._last = earlier
        else:
            later.earlier = earlier
            limit.later = None

    def _on_timer(self) -> None:
        now = self._read_time()
        while late := self._list_late(now):
            for limit in late:
                if limit.queue is not None:  # the end of another one may have ended it
                    limit.queue = None
                    self._unlink(limit)
                    self._expire_one(limit.waiting)
        self._timer = None
        first = self._first
        if first is not None:
            self._timer = asyncio.get_running_loop().call_later(first.ends_at - now, self._on_timer)

    def _list_late(self, now: float) -> list[TimeLimit]:
        """List the oldest ones that are late."""
        late: list[TimeLimit] = []
        limit = self._first
        while limit is not None and not (self._is_shared and limit.ends_at - now > EARLY_S):
            late.append(limit)
            limit = limit.later
        return late

    def _expire_one(self, late: object) -> None:
        try:
            self._expire(late)
        except Exception as error:  # one that fails must not keep the others from their end
            problem = {"message": f"the end of a time limit failed: {late!r}", "exception": error}
            asyncio.get_running_loop().call_exception_handler(problem)


class TimeLimits:
    """The limits of one kind; `expire` is called with what is late. Create it inside a running event loop."""

    __slots__ = ("_expire", "_queues", "_read_time", "_recent")

    def __init__(self, expire: Callable[[Any], None], read_time: Callable[[], float]) -> None:
        self._expire = expire
        self._read_time = read_time
        self._queues: dict[float, TimeLimitQueue] = {}
        self._recent: TimeLimitQueue | None = None
        """The queue that was used last: mostly the next one, too."""

    def __repr__(self) -> str:
        return f"<TimeLimits {list(self._queues.values())!r}>"

    def begin(self, waiting: object, seconds: float, now: float) -> TimeLimit:
        """Let `waiting` expire in `seconds`, unless the returned limit ends before."""
        recent = self._recent
        if recent is not None and recent.seconds == seconds:
            return recent.add(waiting, now)
        queue = self._queues.get(seconds)
        if queue is None:
            queue = self._open(seconds)
        else:
            self._recent = queue
        return queue.add(waiting, now)

    def begin_alone(self, waiting: object, seconds: float, now: float) -> TimeLimit:
        """As `begin`, for limits of which each may have a value of its own."""
        return TimeLimitQueue(seconds, self._expire, self._read_time, is_shared=False).add(waiting, now)

    def _open(self, seconds: float) -> TimeLimitQueue:
        queues = self._queues
        if len(queues) >= QUEUES:
            self._recent = None
            for known in [known for known, queue in queues.items() if queue.is_idle]:
                del queues[known]
        is_shared = len(queues) < QUEUES
        queue = TimeLimitQueue(seconds, self._expire, self._read_time, is_shared=is_shared)
        if is_shared:
            queues[seconds] = queue
        return queue
