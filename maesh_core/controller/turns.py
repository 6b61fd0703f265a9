"""Divides long work among turns of the event loop, so that the controller answers pulls meanwhile.

Takes a generator that yields wherever the work may pause; returns its result. `SmallestFirst` orders several works.
"""

import asyncio
import heapq
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from itertools import count
from typing import TypeVar

ResultT = TypeVar("ResultT")


async def work_in_turns(steps: Generator[None, None, ResultT]) -> ResultT:
    """Do the work, with a pause at each `yield`."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: ResultT = end.value
            return result
        await asyncio.sleep(0)


class SmallestFirst:
    """A lock; of those that wait for it, the one with the smallest work is next: large ones do not delay them."""

    __slots__ = ("_is_held", "_numbers", "_waiting")

    def __init__(self) -> None:
        self._is_held = False
        self._numbers = count()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []

    def __repr__(self) -> str:
        return f"<SmallestFirst {'held' if self._is_held else 'free'}, {len(self._waiting)} wait>"

    @asynccontextmanager
    async def hold(self, size: int) -> AsyncIterator[None]:
        """Hold the lock for a work of this size while the context lasts."""
        if self._is_held:
            turn = asyncio.get_running_loop().create_future()
            heapq.heappush(self._waiting, (size, next(self._numbers), turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._release()
                raise
        self._is_held = True
        try:
            yield
        finally:
            self._release()

    def _release(self) -> None:
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._is_held = False
