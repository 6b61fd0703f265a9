import asyncio

import pytest

from maesh_core.controller.sources import FIRST_PAUSE_S, LONGEST_PAUSE_S, SETTLED_S, feed_source
from maesh_core.model.events import Problem


class StoppedError(BaseException):
    """Ends a feed from within its pause."""


class Script:
    """A source that follows a script: each start tells its batches, then raises or ends."""

    name = "script"

    def __init__(self, *starts):
        self._starts = iter(starts)
        self.closed = 0

    async def watch_events(self, kinds):
        try:
            for step in next(self._starts):
                if isinstance(step, Exception):
                    raise step
                yield [step]
        finally:
            self.closed += 1


async def run(source, pauses_wanted, apply=lambda batch, name: None):
    pauses = []

    async def pause(pause_s):
        pauses.append(pause_s)
        if len(pauses) == pauses_wanted:
            raise StoppedError

    with pytest.raises(StoppedError):
        await feed_source(source, [], apply, pause=pause)
    return pauses


BATCH = Problem("a", "b")


async def test_batches_are_applied_under_the_sources_name():
    applied = []
    await run(Script([BATCH, BATCH]), 1, lambda batch, name: applied.append((batch, name)))
    assert applied == [([BATCH], "script")] * 2


async def test_a_source_that_raises_is_logged_and_started_again(caplog):
    applied = []
    source = Script([BATCH, OSError("away")], [BATCH])
    assert await run(source, 2, lambda batch, name: applied.append(batch)) == [FIRST_PAUSE_S] * 2
    assert applied == [[BATCH]] * 2
    assert "source script failed: OSError: away" in caplog.text
    assert "source script ended" in caplog.text
    assert source.closed == 2


async def test_pauses_grow_while_a_source_tells_nothing_and_shrink_when_it_does():
    starts = [[OSError()]] * 7 + [[BATCH, OSError()]]
    pauses = await run(Script(*starts), 8)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, LONGEST_PAUSE_S, LONGEST_PAUSE_S, FIRST_PAUSE_S]


async def test_a_batch_that_cannot_be_applied_starts_the_source_again(caplog):
    def fail(batch, name):
        raise ValueError("no")

    source = Script([BATCH, BATCH])
    await run(source, 1, fail)
    assert source.closed == 1
    assert "ValueError: no" in caplog.text


async def test_a_cancelled_feed_closes_its_source():
    source = Script([BATCH])
    waiting = asyncio.Event()

    async def pause(_):
        waiting.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(feed_source(source, [], lambda batch, name: None, pause=pause))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert source.closed == 1


async def test_a_reason_that_repeats_is_logged_once(caplog):
    starts = [[BATCH, OSError("away")]] * 3 + [[BATCH, OSError("gone")]]
    await run(Script(*starts), 4)
    assert [message.partition(";")[0] for message in caplog.messages] == [
        "source script failed: OSError: away",
        "source script failed: OSError: gone",
    ]


async def test_a_source_that_has_worked_for_a_while_is_logged_as_working_again(caplog):
    proceed = asyncio.Event()

    class Lasting(Script):
        async def watch_events(self, kinds):
            async for batch in super().watch_events(kinds):
                yield batch
                await proceed.wait()

    async def pause(pause_s):
        if pause_s == SETTLED_S:
            await asyncio.sleep(0)

    starts = Lasting([OSError("away")], [BATCH, BATCH])
    task = asyncio.create_task(feed_source(starts, [], lambda batch, name: None, pause=pause))
    while len(caplog.messages) < 2:  # noqa: ASYNC110 - the log tells nobody
        await asyncio.sleep(0)
    assert caplog.messages[1] == "source script works again"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
