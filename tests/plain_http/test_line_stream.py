"""Lines for one client that watches: what it is sent, what is dropped, and when it ends."""

import asyncio

import pytest

from maesh_core.plain_http.line_stream import BATCH_BYTES, LineStream


def render(count: int) -> bytes:
    return b"dropped %d\n" % count


async def test_lines_that_wait_are_sent_together() -> None:
    stream = LineStream(render)
    stream.put(b"a\n")
    stream.put(b"b\n")
    assert await stream.__anext__() == b"a\nb\n"
    waiting = asyncio.ensure_future(stream.__anext__())
    await asyncio.sleep(0)
    stream.put(b"c\n")
    assert await waiting == b"c\n"


async def test_many_lines_are_sent_in_parts() -> None:
    stream = LineStream(render)
    line = b"x" * (BATCH_BYTES - 1) + b"\n"
    for _ in range(2):
        stream.put(line)
    stream.finish()
    assert [await stream.__anext__(), await stream.__anext__()] == [line, line]
    with pytest.raises(StopAsyncIteration):
        await stream.__anext__()


async def test_above_the_limit_lines_are_dropped_and_counted() -> None:
    stream = LineStream(render, limit=2)
    for number in range(5):
        stream.put(b"%d\n" % number)
    stream.note_dropped(4)
    assert await stream.__anext__() == b"0\n1\ndropped 7\n"
    stream.note_dropped(0)
    stream.note_dropped(1)
    assert await stream.__anext__() == b"dropped 1\n"


async def test_long_lines_are_limited_by_their_bytes() -> None:
    stream = LineStream(render, limit_bytes=10)
    assert stream.put(b"12345\n")
    assert not stream.put(b"12345\n")
    assert stream.put(b"123\n")
    assert await stream.__anext__() == b"12345\n123\ndropped 1\n"
    assert stream.put(b"123456789\n")
    assert not stream.put(b"\n")


async def test_silence_is_broken_by_empty_lines() -> None:
    stream = LineStream(render, heartbeat_s=0.001)
    assert [await stream.__anext__(), await stream.__anext__()] == [b"\n", b"\n"]


async def test_it_ends_after_what_waits_and_takes_no_more() -> None:
    stream = LineStream(render)
    stream.put(b"a\n")
    stream.finish()
    stream.put(b"b\n")
    stream.note_dropped(1)
    assert await stream.__anext__() == b"a\n"
    with pytest.raises(StopAsyncIteration):
        await stream.__anext__()


async def test_closing_calls_back_once_and_ends_it() -> None:
    closed: list[int] = []
    stream = LineStream(render, on_close=lambda: closed.append(1))
    stream.put(b"a\n")
    stream.close()
    stream.close()
    assert closed == [1]
    with pytest.raises(StopAsyncIteration):
        await stream.__anext__()
