import asyncio

import pytest

from maesh_core.controller.api.long_poll import Waiters


@pytest.fixture
def waiters():
    return Waiters(limit=2)


async def start_waiting(waiters, timeout_s=60.0):
    task = asyncio.create_task(waiters.wait(timeout_s))
    await asyncio.sleep(0)
    return task


async def test_a_wake_up_reaches_everybody_who_waits(waiters):
    tasks = [await start_waiting(waiters) for _ in range(2)]
    assert len(waiters) == 2
    assert waiters.is_full
    waiters.wake()
    await asyncio.gather(*tasks)
    assert len(waiters) == 0


async def test_no_request_waits_longer_than_asked(waiters):
    await waiters.wait(0.01)
    assert len(waiters) == 0


async def test_no_time_to_wait_means_not_waiting(waiters):
    await waiters.wait(0)


async def test_a_wake_up_is_not_kept_for_those_who_come_later(waiters):
    waiters.wake()
    task = await start_waiting(waiters)
    assert not task.done()
    waiters.wake()
    await task


async def test_closing_lets_everybody_go_for_good(waiters):
    task = await start_waiting(waiters)
    waiters.close()
    await task
    await waiters.wait(60)
    assert waiters.is_closed


async def test_who_gives_up_is_forgotten(waiters):
    task = await start_waiting(waiters)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(waiters) == 0
    waiters.wake()


async def test_a_wake_up_and_the_end_of_time_at_once_are_fine(waiters):
    task = await start_waiting(waiters)
    waiters.wake()
    waiters.wake()
    await task
