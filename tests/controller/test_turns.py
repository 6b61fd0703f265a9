"""Long work that leaves turns of the event loop to others."""

import asyncio
from collections.abc import Generator

from hypothesis import given
from hypothesis import strategies as st

from maesh_core.controller.turns import SmallestFirst, work_in_turns

from .traffic.measured import work_at_once


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


async def hold(lock: SmallestFirst, size: int, done: list[int], gate: asyncio.Event | None = None) -> None:
    async with lock.hold(size):
        if gate is not None:
            await gate.wait()
        done.append(size)


async def test_of_those_that_wait_the_smallest_is_next() -> None:
    lock, gate = SmallestFirst(), asyncio.Event()
    done: list[int] = []
    tasks = [asyncio.create_task(hold(lock, size, done, gate)) for size in (9, 8, 1, 5, 1)]
    await asyncio.sleep(0)
    assert repr(lock) == "<SmallestFirst held, 4 wait>"
    gate.set()
    await asyncio.gather(*tasks)
    assert done == [9, 1, 1, 5, 8]
    assert repr(lock) == "<SmallestFirst free, 0 wait>"


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=8), st.integers(0, 5))
def test_the_lock_is_never_lost_or_held_twice(works: list[tuple[int, bool]], turns: int) -> None:
    async def run() -> None:
        lock, gate = SmallestFirst(), asyncio.Event()
        done: list[int] = []
        tasks = [(asyncio.create_task(hold(lock, size, done, gate)), is_left) for size, is_left in works]
        for _ in range(turns):
            await asyncio.sleep(0)
        gate.set()
        await asyncio.sleep(0)
        for task, is_left in tasks:
            if is_left:
                task.cancel()
        await asyncio.gather(*(task for task, _ in tasks), return_exceptions=True)
        await asyncio.wait_for(hold(lock, 0, done), 5)
        assert len(done) > sum(not is_left for _, is_left in works)

    asyncio.run(run())
