"""Large bodies through slow clients and servers, over real sockets: who waits, and how much memory it costs."""

import asyncio
import resource
from pathlib import Path
from typing import cast

import pytest
import uvloop

from maesh_core.proxy.http.clients import newcomers

from .socket_engine import BLOCK, GET, MEGABYTES_8, MEGABYTES_32, carry, on_uvloop, until


@pytest.fixture(autouse=True, params=[newcomers.HAND_OVER_READS, 0], ids=["newcomer", "handed-over"])
def _kind_of_transport(request, monkeypatch):
    """Run each test with a client whose connection is new, and with one that the event loop carries."""
    monkeypatch.setattr(newcomers, "HAND_OVER_READS", request.param)


@on_uvloop
async def test_a_large_response_waits_for_a_slow_client_outside_the_proxy():
    sent = []

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % MEGABYTES_32)
        for _ in range(MEGABYTES_32 // 65536):
            writer.write(b"x" * 65536)
            await writer.drain()
            sent.append(65536)
        await reader.read()
        writer.close()

    async with carry(serve) as (handler, address):
        reader, writer = await asyncio.open_connection(*address, limit=1024)
        cast("asyncio.Transport", writer.transport).pause_reading()
        writer.write(GET)
        await until(lambda: any(client.is_write_paused for client in handler.environment.clients))
        (client,) = handler.environment.clients
        assert client._transport.get_write_buffer_size() < 2**20
        assert sum(sent) < MEGABYTES_32
        cast("asyncio.Transport", writer.transport).resume_reading()
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(MEGABYTES_32) == b"x" * MEGABYTES_32
        writer.close()


@on_uvloop
async def test_a_large_request_waits_for_a_slow_server_outside_the_proxy():
    gate = asyncio.Event()

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        reader._transport.pause_reading()
        await gate.wait()
        reader._transport.resume_reading()
        await reader.readexactly(MEGABYTES_8)
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await reader.read()
        writer.close()

    async with carry(serve) as (handler, address):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % MEGABYTES_8 + b"x" * MEGABYTES_8)
        clients = handler.environment.clients
        await until(lambda: any(client.is_read_paused and client.exchange.upstream for client in clients))
        (upstream,) = handler.environment.upstreams
        assert upstream._transport.get_write_buffer_size() < 2**20
        gate.set()
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 204 No Content\r\n\r\n"
        assert len(next(iter(handler._servers.values())).idle) == 1
        writer.close()


BODY_BYTES = 64 * 2**20


def read_memory():
    """Read how many bytes this process has in memory: client, proxy and server."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def take_slowly(reader, memory):
    """Take a body in small pieces, while the sender always has more to send; note how much memory that took."""
    left = BODY_BYTES
    while left:
        left -= len(await reader.readexactly(min(left, 65536)))
        if left % 2**20 == 0:
            await asyncio.sleep(0.001)
        memory.append(read_memory())


async def give(writer):
    for _ in range(BODY_BYTES // len(BLOCK)):
        writer.write(BLOCK)
        await writer.drain()


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_to_a_slow_reader_uses_little_memory_in_both_directions(is_chunked):
    framing = b"Transfer-Encoding: chunked" if is_chunked else b"Content-Length: %d" % BODY_BYTES
    begin, end = (b"%x\r\n" % BODY_BYTES, b"\r\n0\r\n\r\n") if is_chunked else (b"", b"")
    memory = []

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(len(begin))
        await take_slowly(reader, memory)
        await reader.readexactly(len(end))
        writer.write(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n%b" % (framing, begin))
        await give(writer)
        writer.write(end)
        await reader.read()
        writer.close()

    async def carry_both():
        async with carry(serve) as (_, address):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"POST / HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n%b" % (framing, begin))
            memory.append(read_memory())
            await give(writer)
            writer.write(end)
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(len(begin))
            await take_slowly(reader, memory)
            await reader.readexactly(len(end))
            writer.close()

    uvloop.run(asyncio.wait_for(carry_both(), 100))
    assert max(memory) - memory[0] < MEGABYTES_8
