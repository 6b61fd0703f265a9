"""Long work that leaves turns of the event loop to others."""

import asyncio
from collections.abc import Generator

from maesh_core.controller.traffic.turns import work_at_once, work_in_turns


def count_to(number: int, done: list[int]) -> Generator[None, None, int]:
    for each in range(number):
        done.append(each)
        yield
    return number


async def test_others_get_a_turn_at_each_pause() -> None:
    done: list[int] = []
    working = asyncio.create_task(work_in_turns(count_to(3, done)))
    for expected in ([], [0], [0, 1]):
        assert done == expected
        await asyncio.sleep(0)
    assert await working == 3


async def test_work_that_was_cancelled_can_be_finished_at_once() -> None:
    done: list[int] = []
    steps = count_to(3, done)
    working = asyncio.create_task(work_in_turns(steps))
    await asyncio.sleep(0)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    assert len(done) == 1
    assert work_at_once(steps) == 3
    assert done == [0, 1, 2]
