"""Large bodies that middlewares change in threads, through slow clients and servers, over real sockets."""

import asyncio
import hashlib
import zlib
from typing import cast

import pytest

from .exchanges.body_doubles import Uses
from .socket_engine import BLOCK, GET, MEGABYTES_32, carry, on_uvloop, until

BLOCKS = MEGABYTES_32 // len(BLOCK)


class Invert:
    """Inverts every byte, in a thread if it is told so."""

    TABLE = bytes(255 - byte for byte in range(256))

    def __init__(self, *, in_thread):
        self.in_thread = in_thread

    def feed(self, data):
        if self.in_thread:
            return asyncio.get_running_loop().run_in_executor(None, data.translate, self.TABLE)
        return data.translate(self.TABLE)

    def end(self, trailers):
        return b"end"

    def close(self):
        pass


class Count:
    """Counts the bytes of a body."""

    size = 0

    def observe(self, data):
        self.size += len(data)

    def end(self, *, is_complete):
        assert is_complete


INVERTED = BLOCK.translate(Invert.TABLE)


class Unpack:
    """Decompresses: a piece may become a thousand times as large."""

    def __init__(self):
        self.stream = zlib.decompressobj()

    def feed(self, data):
        return self.stream.decompress(data)

    def end(self, trailers):
        return self.stream.flush()

    def close(self):
        pass


async def read_chunks(reader):
    """Read a chunked body; give its size and its hash."""
    size, digest = 0, hashlib.blake2b()
    while True:
        length = int(await reader.readuntil(b"\r\n"), 16)
        data = await reader.readexactly(length + 2)
        if not length:
            return size, digest.hexdigest()
        size += length
        digest.update(data[:-2])


def sum_blocks(block, tail=b"end"):
    digest = hashlib.blake2b()
    for _ in range(BLOCKS):
        digest.update(block)
    digest.update(tail)
    return BLOCKS * len(block) + len(tail), digest.hexdigest()


@pytest.mark.parametrize("in_thread", [False, True])
def test_a_large_response_is_changed_for_a_slow_client(in_thread):
    sent = []

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % MEGABYTES_32)
        for _ in range(BLOCKS):
            writer.write(BLOCK)
            await writer.drain()
            sent.append(len(BLOCK))
        await reader.read()
        writer.close()

    @on_uvloop
    async def run():
        uses = Uses(response=lambda: Invert(in_thread=in_thread))
        async with carry(serve, middlewares=[uses]) as (handler, address):
            reader, writer = await asyncio.open_connection(*address, limit=2**20)
            cast("asyncio.Transport", writer.transport).pause_reading()
            writer.write(GET)
            await until(lambda: any(client.is_write_paused for client in handler.environment.clients))
            (client,) = handler.environment.clients
            assert client._transport.get_write_buffer_size() < 2**20
            assert sum(sent) < MEGABYTES_32
            cast("asyncio.Transport", writer.transport).resume_reading()
            assert b"Transfer-Encoding: chunked" in await reader.readuntil(b"\r\n\r\n")
            assert await read_chunks(reader) == sum_blocks(INVERTED)
            writer.close()

    run()


@pytest.mark.parametrize("in_thread", [False, True])
def test_a_large_request_is_changed_for_a_slow_server(in_thread):
    gate, results = asyncio.Event(), []

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        reader._transport.pause_reading()
        await gate.wait()
        reader._transport.resume_reading()
        results.append(await read_chunks(reader))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await reader.read()
        writer.close()

    @on_uvloop
    async def run():
        tap = Count()
        uses = Uses(lambda: Invert(in_thread=in_thread))
        async with carry(serve, middlewares=[Uses(tap), uses]) as (handler, address):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % MEGABYTES_32)
            for _ in range(BLOCKS):
                writer.write(BLOCK)
            clients = handler.environment.clients
            await until(lambda: any(client.is_read_paused and client.exchange.upstream for client in clients))
            (upstream,) = handler.environment.upstreams
            assert upstream._transport.get_write_buffer_size() < 2**20
            gate.set()
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 204 No Content\r\n\r\n"
            assert results == [sum_blocks(INVERTED)]
            assert tap.size == MEGABYTES_32
            assert len(next(iter(handler._servers.values())).idle) == 1
            writer.close()

    run()


@on_uvloop
async def test_a_body_that_becomes_much_larger_waits_for_a_slow_client():
    packed = zlib.compress(b"\0" * (128 * 2**20))

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed)
        await reader.read()
        writer.close()

    async with carry(serve, middlewares=[Uses(response=Unpack)]) as (handler, address):
        _, writer = await asyncio.open_connection(*address, limit=1024)
        cast("asyncio.Transport", writer.transport).pause_reading()
        writer.write(GET)
        await until(lambda: any(client.is_write_paused for client in handler.environment.clients))
        (client,) = handler.environment.clients
        assert client._transport.get_write_buffer_size() < 80 * 2**20  # what one piece of 64 KiB can become
        writer.close()
