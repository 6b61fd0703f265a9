"""The work queue of the leader: marked objects, each processed by one of several writers.

Takes the keys of objects and a function that brings one object to its desired state. An object that is marked while it
is processed is processed again. While this controller does not lead, marks are dropped, because the next leader checks
everything. Sends nothing itself, and decides nothing about failures but when they are repeated.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable
from typing import Generic, Protocol, TypeVar

from maesh_core.process.backoff import Backoff

LEASE_MARGIN_S = 1.0
"""No write may still be running when the lease ends."""

KeyT = TypeVar("KeyT", bound=Hashable)


class Leadership(Protocol):
    """Whether this controller may write."""

    @property
    def remaining_s(self) -> float: ...  # noqa: D102


class NotLeadingError(Exception):
    """This controller no longer leads."""


class WorkQueue(Generic[KeyT]):
    """The objects to process. `mark` and `retry` may be called at any time, `run` in one task.

    `process` handles its own failures; after NotLeadingError, the object is marked again.
    """

    __slots__ = (
        "_backoffs",
        "_busy",
        "_leadership",
        "_longest_pause_s",
        "_marked",
        "_pause",
        "_process",
        "_retries",
        "_wake",
        "_writers",
    )

    def __init__(
        self,
        process: Callable[[KeyT], Awaitable[None]],
        leadership: Leadership,
        *,
        writers: int,
        longest_pause_s: float,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._process = process
        self._leadership = leadership
        self._writers = writers
        self._longest_pause_s = longest_pause_s
        self._pause = pause
        self._marked: dict[KeyT, None] = {}  # in order
        self._busy: set[KeyT] = set()
        self._backoffs: dict[KeyT, Backoff] = {}
        self._retries: dict[KeyT, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()

    def __repr__(self) -> str:
        return f"<WorkQueue marked={len(self._marked)} busy={len(self._busy)} waiting={len(self._retries)}>"

    @property
    def has_work(self) -> bool:
        """Whether an object is marked, or being processed."""
        return bool(self._marked) or bool(self._busy)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is marked, being processed, or waiting to be repeated."""
        return not self.has_work and not self._retries

    @property
    def is_leading(self) -> bool:
        """Whether this controller leads."""
        return self._leadership.remaining_s > 0

    def limit_request_s(self, timeout_s: float) -> float:
        """Limit the time-out of a request to the time that is left of the lease. Raises NotLeadingError."""
        limited_s = min(timeout_s, self._leadership.remaining_s - LEASE_MARGIN_S)
        if limited_s <= 0:
            raise NotLeadingError
        return limited_s

    def mark(self, keys: Iterable[KeyT]) -> None:
        """Schedule these objects."""
        for key in keys:
            self._marked[key] = None
        self._wake.set()

    def retry(self, key: KeyT, at_least_s: float | None = None) -> None:
        """Mark again after a pause, once; marks in the meantime add no further ones. The pauses of an object grow."""
        if key in self._retries:
            return
        backoff = self._backoffs.setdefault(key, Backoff(longest_s=self._longest_pause_s))
        self._retries[key] = asyncio.create_task(self._mark_later(key, backoff.next(at_least_s=at_least_s)))

    async def _mark_later(self, key: KeyT, pause_s: float) -> None:
        await self._pause(pause_s)
        del self._retries[key]  # before the check, which may schedule the next retry at once
        self.mark((key,))

    def note_success(self, key: KeyT) -> None:
        """Let the next failure of an object be repeated after the shortest pause."""
        self._backoffs.pop(key, None)

    def forget(self) -> None:
        """Drop all marks and retries: another controller leads now, and checks everything."""
        for retry in self._retries.values():
            retry.cancel()
        for known in (self._marked, self._retries, self._backoffs):
            known.clear()

    async def run(self) -> None:
        """Process what is marked, forever; while this controller does not lead, marks are dropped."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._writers):
                    group.create_task(self._work())
        finally:
            retries = tuple(self._retries.values())
            self._retries.clear()
            for task in retries:
                task.cancel()
            await asyncio.gather(*retries, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            key = next((key for key in self._marked if key not in self._busy), None)
            if key is None:
                self._wake.clear()
                await self._wake.wait()
                continue
            remaining_s = self._leadership.remaining_s
            if remaining_s <= 0:
                self._marked.clear()  # the next leader checks everything
                continue
            if remaining_s <= LEASE_MARGIN_S:
                await self._pause(LEASE_MARGIN_S)  # until the lease is renewed, or lost
                continue
            del self._marked[key]
            self._busy.add(key)
            try:
                await self._process(key)
            except NotLeadingError:
                self.mark((key,))
            finally:
                self._busy.discard(key)
                self._wake.set()
