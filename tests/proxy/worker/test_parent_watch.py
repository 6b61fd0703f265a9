"""A proxy that was started by another process learns of that one's end."""

import asyncio
import os

import pytest

from maesh_core.proxy.worker.parent_watch import follow_parent


@pytest.fixture
def pipe():
    ends = list(os.pipe())
    yield ends
    for end in ends:
        os.close(end)


async def test_end_of_the_pipe_means_that_the_parent_is_gone(pipe, monkeypatch):
    monkeypatch.setenv("MAESH_PARENT_PIPE", str(pipe[0]))
    calls = []
    gone = asyncio.Event()

    def see_end():
        calls.append(1)
        gone.set()

    follow_parent(see_end)
    os.write(pipe[1], b"still here")
    await asyncio.sleep(0)
    assert "MAESH_PARENT_PIPE" not in os.environ
    os.close(pipe.pop())
    await asyncio.wait_for(gone.wait(), 60)
    await asyncio.sleep(0)
    assert calls == [1]


@pytest.mark.parametrize("value", [None, "", "x", "-1"])
async def test_without_a_pipe_nothing_is_followed(value, monkeypatch):
    if value is not None:
        monkeypatch.setenv("MAESH_PARENT_PIPE", value)
    calls = []
    follow_parent(lambda: calls.append(1))
    await asyncio.sleep(0)
    assert calls == []
