"""Tunnels over real sockets: both directions at once, slow sides, and resets."""

import asyncio
import socket
import struct
from typing import Any, cast

import pytest

from maesh_core.proxy.http.clients import newcomers

from .socket_engine import BLOCK, MEGABYTES_8, MEGABYTES_32, carry, on_uvloop, until


@pytest.fixture(autouse=True, params=[newcomers.HAND_OVER_READS, 0], ids=["newcomer", "handed-over"])
def _kind_of_transport(request, monkeypatch):
    """Run each test with a client whose connection is new, and with one that the event loop carries."""
    monkeypatch.setattr(newcomers, "HAND_OVER_READS", request.param)


UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"


@on_uvloop
async def test_a_tunnel_carries_both_directions_at_once_and_each_half_ends_separately():
    got = {}

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SWITCHING)
        got["early"] = await reader.readexactly(5)
        while data := await reader.read(65536):  # an echo
            writer.write(data)
            await writer.drain()
        got["end"] = True
        writer.write(b"bye")
        writer.close()

    async def say(writer):
        for _ in range(MEGABYTES_8 // len(BLOCK)):
            writer.write(BLOCK)
            await writer.drain()
        writer.write_eof()

    async with carry(serve) as (handler, address):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(UPGRADE + b"early")
        assert await reader.readuntil(b"\r\n\r\n") == SWITCHING
        assert len(handler.environment.tunnels) == 1
        saying = asyncio.create_task(say(writer))
        assert await reader.readexactly(MEGABYTES_8) == b"x" * MEGABYTES_8
        await saying
        assert await reader.read() == b"bye"
        assert got == {"early": b"early", "end": True}
        await until(lambda: not handler.environment.tunnels)
        writer.close()


@on_uvloop
async def test_a_tunnel_to_a_slow_side_buffers_little_and_forwards_a_reset():
    waiting = asyncio.Event()

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SWITCHING)
        reader._transport.pause_reading()
        await waiting.wait()
        writer.transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        writer.transport.abort()

    async with carry(serve) as (handler, address):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(UPGRADE)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"x" * MEGABYTES_8)
        (tunnel,) = handler.environment.tunnels
        await until(lambda: tunnel.client._is_read_paused)
        assert tunnel.upstream.unsent_bytes < 2**20
        waiting.set()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


@pytest.mark.parametrize("is_client", [True, False], ids=["client", "server"])
@pytest.mark.parametrize("is_ended", [True, False], ids=["ended", "full"])
def test_a_tunnel_ends_when_a_side_that_is_not_read_is_reset(is_client, is_ended):
    sides = {}

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SWITCHING)
        sides["server"] = writer
        reader._transport.pause_reading()
        await asyncio.Event().wait()

    @on_uvloop
    async def interrupt():
        async with carry(serve) as (handler, address):
            reader, sides["client"] = await asyncio.open_connection(*address)
            sides["client"].write(UPGRADE)
            await reader.readuntil(b"\r\n\r\n")
            cast("Any", reader)._transport.pause_reading()
            side = sides["client" if is_client else "server"]
            (tunnel,) = handler.environment.tunnels
            end = tunnel.client if is_client else tunnel.upstream
            if is_ended:
                side.write_eof()
            else:
                side.write(b"x" * MEGABYTES_32)
            await until(lambda: end.is_unread)
            side.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            side.transport.abort()
            await asyncio.sleep(0)
            handler.environment.clock.tick()
            await until(lambda: not handler.environment.tunnels)
            assert not any(server.opened for server in handler._servers.values())
            sides["server" if is_client else "client"].transport.abort()

    interrupt()
