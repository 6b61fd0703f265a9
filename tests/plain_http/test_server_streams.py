"""Responses of the small HTTP server that are streams."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import pytest

from maesh_core.plain_http.messages import Request, Response

from .serving import CUT, GET, HOST, OK, connecting, serving, until


class Stream:
    """Parts that a test sends, until it ends or fails them."""

    def __init__(self) -> None:
        self.parts: asyncio.Queue[bytes | Exception] = asyncio.Queue()
        self.taken = self.closed = 0

    async def __anext__(self) -> bytes:
        part = await self.parts.get()
        if isinstance(part, Exception):
            raise part
        self.taken += 1
        return part

    def close(self) -> None:
        self.closed += 1


def streaming(stream: Stream) -> Callable[[Request], object]:
    return lambda request: Response(status=200, stream=stream) if request.target == b"/stream" else OK


STREAM = b"GET /stream HTTP/1.1\r\n" + HOST + b"\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_a_stream_is_sent_in_chunks_as_its_parts_come_and_the_next_request_follows() -> None:
    stream = Stream()
    async with serving(streaming(stream)) as server, connecting(server) as (reader, writer):
        writer.write(STREAM + GET)
        assert await reader.readexactly(len(CHUNKED)) == CHUNKED
        for part, expected in ((b"one", b"3\r\none\r\n"), (b"", b""), (b"x" * 10, b"a\r\nxxxxxxxxxx\r\n")):
            stream.parts.put_nowait(part)
            assert await reader.readexactly(len(expected)) == expected
        stream.parts.put_nowait(StopAsyncIteration())
        assert await reader.readexactly(5) == b"0\r\n\r\n"
        assert (await reader.readuntil(b"page")).startswith(b"HTTP/1.1 200 OK\r\nA: b")
    assert stream.closed == 1


async def test_a_stream_for_http_1_0_ends_with_the_connection() -> None:
    stream = Stream()
    async with serving(streaming(stream)) as server, connecting(server) as (reader, writer):
        writer.write(b"GET /stream HTTP/1.0\r\n\r\n")
        for part in (b"one", b"two", StopAsyncIteration()):
            stream.parts.put_nowait(part)
        assert await reader.read() == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nonetwo"
    assert stream.closed == 1


@pytest.mark.parametrize("is_half_closed", [True, False])
async def test_a_stream_ends_when_its_client_leaves(*, is_half_closed: bool) -> None:
    stream = Stream()
    async with serving(streaming(stream)) as server:
        async with connecting(server) as (reader, writer):
            writer.write(STREAM)
            await reader.readexactly(len(CHUNKED))
            if is_half_closed:
                writer.write_eof()
            else:
                writer.transport.abort()
            await until(lambda: stream.closed > 0)
        await until(lambda: not server.places.all)
    assert stream.closed == 1


async def test_a_stream_waits_for_a_client_that_does_not_read_and_cuts_it_at_the_time_limit() -> None:
    stream = Stream()
    for _ in range(1000):
        stream.parts.put_nowait(b"x" * 100_000)
    async with serving(streaming(stream), send_s=0.2) as server, connecting(server) as (_, writer):
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(STREAM)
        await until(lambda: stream.taken > 1)
        await until(lambda: stream.closed == 1)
    assert stream.taken < 1000


async def test_a_stream_that_fails_is_cut_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    stream = Stream()
    async with serving(streaming(stream)) as server, connecting(server) as (reader, writer):
        writer.write(STREAM)
        await reader.readexactly(len(CHUNKED))
        stream.parts.put_nowait(ValueError("broken"))
        with suppress(*CUT):
            assert await reader.read() == b""
        await until(lambda: stream.closed == 1)
    assert "/stream failed" in caplog.text


async def test_a_stream_of_which_nothing_is_sent_is_closed() -> None:
    stream, gate = Stream(), asyncio.Event()

    async def respond(request: Request) -> Response:
        await gate.wait()
        return Response(status=200, stream=stream)

    async with serving(respond) as server:
        async with connecting(server) as (reader, writer):
            writer.write(b"HEAD / HTTP/1.0\r\n\r\n")
            gate.set()
            assert (await reader.read()).endswith(b"\r\n\r\n")
        assert stream.closed == 1


async def test_closing_ends_streams() -> None:
    stream = Stream()
    async with serving(streaming(stream)) as server, connecting(server) as (reader, writer):
        writer.write(STREAM)
        await reader.readexactly(len(CHUNKED))
        await server.close(grace_s=0.01)
        assert stream.closed == 1
