import asyncio
import os
from pathlib import Path

import pytest
import uvloop

from maesh_core.process.starting import start_process

LOOPS = {"asyncio": asyncio.run, "uvloop": uvloop.run}


def list_children() -> set[str]:
    """List the processes that the main thread has started."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


@pytest.mark.parametrize("turns", range(8))
@pytest.mark.parametrize("loop", LOOPS)
def test_a_start_that_is_cancelled_leaves_no_process_behind(loop: str, turns: int) -> None:
    """However many turns of the event loop the start had."""

    async def use() -> None:
        process = await start_process("sleep", "60")
        try:
            await process.wait()
        finally:
            process.kill()
            await process.wait()

    async def start_and_cancel() -> None:
        task = asyncio.create_task(use())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert list_children() <= before

    before = list_children()
    LOOPS[loop](start_and_cancel())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_program_that_is_missing_is_an_os_error(loop: str) -> None:
    async def start() -> None:
        with pytest.raises(FileNotFoundError):
            await start_process("/no/such/program")

    LOOPS[loop](start())


def test_options_are_those_of_asyncio() -> None:
    async def ask() -> bytes:
        process = await start_process("cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
        output, _ = await process.communicate(b"x")
        return output

    assert uvloop.run(ask()) == b"x"
