"""Results that several callers share, in a time that the tests move."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from maesh_core.controller.recent_result import FRESH_S, RecentResult


class Work:
    """Makes numbers: 1, 2 and so on. It waits for a gate, and raises if there is an error."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.count = 0
        self.error: Exception | None = None
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.numbers = RecentResult(self.make, clock=lambda: self.now_s)

    async def make(self) -> int:
        self.count += 1
        number = self.count
        self.begun.set()
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return number


@pytest.fixture
async def work() -> AsyncIterator[Work]:
    work = Work()
    yield work
    await work.numbers.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_callers_at_the_same_time_share_one_result(work: Work) -> None:
    work.gate.clear()
    waiting = [asyncio.create_task(work.numbers.get()) for _ in range(5)]
    await work.begun.wait()
    work.gate.set()
    assert await asyncio.gather(*waiting) == [1] * 5


async def test_a_result_is_used_for_a_while(work: Work) -> None:
    assert await work.numbers.get() == 1
    work.now_s = FRESH_S - 0.1
    assert await work.numbers.get() == 1
    work.now_s = FRESH_S
    assert await work.numbers.get() == 2


async def test_a_result_that_took_longer_is_used_as_long_as_it_took(work: Work) -> None:
    work.gate.clear()
    waiting = asyncio.create_task(work.numbers.get())
    await work.begun.wait()
    work.now_s = 4.0
    work.gate.set()
    assert await waiting == 1
    work.now_s = 7.9
    assert await work.numbers.get() == 1
    work.now_s = 8.0
    assert await work.numbers.get() == 2


async def test_a_caller_that_leaves_does_not_end_the_work_of_others(work: Work) -> None:
    work.gate.clear()
    leaving, staying = (asyncio.create_task(work.numbers.get()) for _ in range(2))
    await work.begun.wait()
    leaving.cancel()
    await asyncio.sleep(0)
    work.gate.set()
    assert await staying == 1
    assert leaving.cancelled()


async def test_an_error_is_raised_for_a_while_too_and_then_it_is_tried_again(work: Work) -> None:
    work.error = ValueError("broken")
    for _ in range(2):
        with pytest.raises(ValueError, match="broken"):
            await work.numbers.get()
    assert work.count == 1
    work.error, work.now_s = None, FRESH_S
    assert await work.numbers.get() == 2


async def test_closing_ends_the_work(work: Work) -> None:
    work.gate.clear()
    waiting = asyncio.create_task(work.numbers.get())
    await work.begun.wait()
    await work.numbers.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
