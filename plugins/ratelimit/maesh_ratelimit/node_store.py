"""The store `node`: the workers of a node share the buckets (buckets.py), which survive a worker that dies.

All workers use the machine's monotonic clock.
"""

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final

import msgspec

from maesh_core.plugin import MetricFamily
from maesh_ratelimit.buckets import BucketTable, build_key
from maesh_ratelimit.places import Places
from maesh_ratelimit.settings import Limit
from maesh_ratelimit.store import Limiter
from maesh_ratelimit.store_report import StoreState

REMEMBERED_LENGTH: Final = 64
"""Longer sources are hashed for each request, so that clients cannot fill the memory."""
NO_WAIT_S: Final = 1e-7
"""A token that is due within this time counts as available, because sums of fractions are not exact."""


class NodeLimiter(Limiter):
    """The buckets of one limit. A request needs a token; there is a new one every `interval_s`."""

    def __init__(
        self, limit: Limit, table: BucketTable, service: str, *, time: Callable[[], float] = monotonic
    ) -> None:
        super().__init__(limit)
        self._name = f"{service} {msgspec.json.encode(limit).decode()}"
        self._table, self._keys, self._times = table, table.keys, table.times
        self._time = time
        self._depth_s = (limit.burst - 1) * self.interval_s + NO_WAIT_S
        self._farthest_wait_s = (1 + table.workers) * self.interval_s + self.longest_wait_s + NO_WAIT_S
        """Longest wait, for the last token of each worker and the next. Only a clock that was set back exceeds it."""
        self._own_count = table.own_count
        self._remembered = Places()
        self._places, self._looks = self._remembered.found, self._remembered.looks

    def __repr__(self) -> str:
        return f"<NodeLimiter {self._name}>"

    def take(self, source: str | bytes) -> float:
        """Take a token of a client, unless the next one is too far away."""
        now, times = self._time(), self._times
        place, key = self._places.get(source) or self._find(source, now)
        if self._keys[place] != key:  # another client now has the place
            place, key = self._find(source, now)
        full_at = times[place]
        wait_s = full_at - now - self._depth_s
        if wait_s > self.longest_wait_s:
            return self._correct(place, now)
        times[place] = (full_at if full_at > now else now) + self.interval_s
        if self._own_count is not None:
            self._own_count[place] += 1
        return wait_s

    def give_back(self, source: str | bytes) -> None:
        """Return a token. The count of tokens taken decreases too, because it gives the bucket's lower bound."""
        place, _ = self._find_current(source)
        self._times[place] -= self.interval_s
        if self._own_count is not None:
            self._own_count[place] -= 1

    def count_missing(self, source: str | bytes) -> float:
        """Return how many tokens a client's bucket lacks to be full."""
        place, now = self._find_current(source)
        missing_s = self._times[place] - now
        return missing_s / self.interval_s if missing_s > 0 else 0.0

    def _find_current(self, source: str | bytes) -> tuple[int, float]:
        """Find the place of a client's bucket, and the time."""
        now = self._time()
        place, key = self._places.get(source) or self._find(source, now)
        return (place, now) if self._keys[place] == key else (self._find(source, now)[0], now)

    def _correct(self, place: int, now: float) -> float:
        """Correct the bucket of a refused client for tokens that were lost when workers wrote at the same instant.

        The bucket's time is at least its time at an earlier check, plus an interval for each token since then.
        """
        taken = self._table.count_taken(place)  # before the time, because a worker writes its time before it counts
        full_at, tokens_s = self._times[place], self.interval_s
        earlier_taken, earlier_full_at = self._looks.get(place, (taken, full_at))
        owed_at = earlier_full_at + (taken - earlier_taken) * tokens_s
        if owed_at > full_at + tokens_s / 2:
            full_at = self._times[place] = owed_at
        else:
            self._looks[place] = (taken, full_at)
        wait_s = full_at - now - self._depth_s
        if wait_s > self._farthest_wait_s:
            wait_s = tokens_s
            self._times[place] = now + self._depth_s + wait_s
        return wait_s

    def _find(self, source: str | bytes, now: float) -> tuple[int, int]:
        key = build_key(self._name, source)
        place = self._table.find(key, now)
        found = (place, key)
        self._looks.pop(place, None)
        if len(source) <= REMEMBERED_LENGTH:
            self._table.remember(self._remembered)
            self._places[source] = found
        return found


class NodeStore:
    """Builds limiters whose buckets are in one table. Implements `Store`."""

    def __init__(self, table: BucketTable, *, time: Callable[[], float] = monotonic) -> None:
        self._table, self._time = table, time

    def __repr__(self) -> str:
        return f"<NodeStore {self._table!r}>"

    def build_limiter(self, limit: Limit, service: str) -> Limiter:
        """Build the limiter of one limit of a service."""
        return NodeLimiter(limit, self._table, service, time=self._time)

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Return nothing: the core counts responses by status."""
        return ()

    def describe_state(self) -> StoreState | None:
        """Return None: memory is never away."""
        return None
