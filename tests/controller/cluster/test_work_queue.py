"""The work queue of a leader, with pauses that the test ends."""

import asyncio

import pytest

from maesh_core.controller.cluster.work_queue import LEASE_MARGIN_S, NotLeadingError, WorkQueue


class Work:
    def __init__(self):
        self.remaining_s = 15.0
        self.processed = []
        self.paused = []
        self.pauses = asyncio.Queue()
        self.gate = asyncio.Event()
        self.gate.set()
        self.error = None
        self.queue = WorkQueue(self.process, self, writers=2, longest_pause_s=10.0, pause=self.pause)

    async def process(self, key):
        self.processed.append(key)
        await self.gate.wait()
        error, self.error = self.error, None
        if error is not None:
            raise error

    async def pause(self, seconds):
        self.paused.append(seconds)
        await self.pauses.get()

    async def rest(self, condition):
        async with asyncio.timeout(60):
            while True:
                if condition():
                    return
                await asyncio.sleep(0)


@pytest.fixture
async def work():
    work = Work()
    running = asyncio.create_task(work.queue.run())
    yield work
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_key_that_is_marked_while_it_is_processed_is_processed_again_afterwards(work):
    work.gate.clear()
    work.queue.mark(["a", "a", "b"])
    await work.rest(lambda: work.processed == ["a", "b"])
    work.queue.mark(["a"])
    await asyncio.sleep(0)
    assert work.processed == ["a", "b"]
    work.gate.set()
    await work.rest(lambda: work.queue.is_idle)
    assert work.processed == ["a", "b", "a"]


async def test_marks_are_dropped_while_another_controller_leads(work):
    work.remaining_s = 0.0
    work.queue.mark(["a"])
    await work.rest(lambda: work.queue.is_idle)
    assert work.processed == []
    assert not work.queue.is_leading


async def test_nothing_begins_shortly_before_the_lease_ends(work):
    work.remaining_s = LEASE_MARGIN_S
    work.queue.mark(["a"])
    await work.rest(lambda: work.paused)
    assert (work.processed, work.paused[0]) == ([], LEASE_MARGIN_S)
    with pytest.raises(NotLeadingError):
        work.queue.limit_request_s(5.0)
    work.remaining_s = 15.0
    for _ in work.paused:
        work.pauses.put_nowait(None)
    await work.rest(lambda: work.queue.is_idle)
    assert work.processed == ["a"]
    assert work.queue.limit_request_s(5.0) == 5.0


async def test_a_key_whose_processing_lost_the_lead_is_marked_again(work):
    work.error = NotLeadingError()
    work.queue.mark(["a"])
    await work.rest(lambda: work.queue.is_idle)
    assert work.processed == ["a", "a"]


async def test_retries_of_a_key_are_one_and_their_pauses_grow_until_it_succeeds(work):
    for at_least_s in (None, None, 60.0):
        work.queue.retry("a", at_least_s)
        work.queue.retry("a")
        await work.rest(lambda: work.paused)
        work.pauses.put_nowait(None)
        await work.rest(lambda: work.queue.is_idle)
    assert work.processed == ["a", "a", "a"]
    first, second, third = work.paused
    assert 0.05 <= first <= 0.1 <= second <= 0.2
    assert 60.2 <= third <= 60.4
    work.queue.note_success("a")
    work.queue.retry("a")
    await work.rest(lambda: len(work.paused) == 4)
    assert work.paused[3] <= 0.1


async def test_a_queue_that_forgets_repeats_nothing(work):
    work.queue.retry("a")
    await work.rest(lambda: work.paused)
    work.queue.forget()
    assert work.queue.is_idle
    work.pauses.put_nowait(None)
    await asyncio.sleep(0)
    assert work.processed == []
