"""The engine over real sockets and uvloop: what a fake transport cannot show."""

import asyncio
import contextlib
import functools
import os
import resource
import socket
import struct
from pathlib import Path
from typing import Any, cast

import pytest
import uvloop

from maesh_core.model.configuration import HttpRouter, Section, Server, Service
from maesh_core.proxy.http.clients import newcomers
from maesh_core.proxy.http.handler import HttpHandler
from maesh_core.proxy.network.clock import Clock
from maesh_core.settings import CarryingSettings

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
MEGABYTES_8 = 8 * 2**20
MEGABYTES_32 = 32 * 2**20  # more than the buffers of all sockets on the way can hold


@pytest.fixture(autouse=True, params=[newcomers.HAND_OVER_READS, 0], ids=["newcomer", "handed-over"])
def _kind_of_transport(request, monkeypatch):
    """Run each test with a client whose connection is new, and with one that the event loop carries."""
    monkeypatch.setattr(newcomers, "HAND_OVER_READS", request.param)


def on_uvloop(test):
    """Run a test in a uvloop of its own."""

    @functools.wraps(test)
    def run():
        uvloop.run(asyncio.wait_for(test(), 100))

    return run


async def until(is_so):
    """Let things happen until it is so."""
    while not is_so():  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def carry(serve, settings=None):
    """Run a proxy before a server whose connections `serve(reader, writer)` handles; gives the proxy's address."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    handler = HttpHandler(settings or CarryingSettings(), Clock(asyncio.get_running_loop()))
    services = {"a": Service(servers=(Server(address="127.0.0.1", port=server.sockets[0].getsockname()[1]),))}
    routers = {"a": HttpRouter(entrypoint=1, hosts=("a",), service="a")}
    section = Section(routers=routers, services=services)
    handler.apply_table(handler.compile_table(section, middlewares={}, changed=None))
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    address = listening.getsockname()
    listener = await handler.open_listener(listening, 1)
    try:
        yield handler, address
    finally:
        listener.close()
        handler.abort()
        handler.environment.clock.close()
        server.close()
        await server.wait_closed()
        await until(lambda: not (handler.environment.clients or handler.environment.upstreams))


async def serve_ok(reader, writer):
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n%b" % head[5:7])
    writer.close()


@on_uvloop
async def test_a_half_closed_client_gets_its_pipelined_answers_and_the_end_where_it_is_served():
    async with carry(serve_ok, CarryingSettings(half_closed_clients="serve")) as (_, address):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"".join(GET.replace(b"/", b"/%02d" % number, 1) for number in range(50)))
        writer.write_eof()
        answers = await reader.read()
        numbers = [int(part[:2]) for part in answers.replace(b"Connection: close\r\n", b"").split(b"\r\n\r\n")[1:]]
        assert numbers == list(range(50))
        assert answers.count(b"Connection: close") == 1
        writer.close()


@on_uvloop
async def test_a_client_that_leaves_within_a_silent_stream_ends_it_at_its_server():
    ended = asyncio.Event()

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            await reader.read()
        ended.set()
        writer.close()

    async with carry(serve) as (handler, address):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(GET)
        await reader.readuntil(b"\r\n\r\n")
        writer.close()
        await ended.wait()
        await until(lambda: not handler.environment.clients)
        assert handler.current.table.counters["a"].statuses == {499: 1}


@on_uvloop
@pytest.mark.slow
async def test_clients_that_leave_unread_leave_nothing_behind():
    """Some with a FIN and some with a reset; some behind a slow answer, some that never took their answers."""

    async def serve(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.read()
        writer.close()

    def send(client, requests):
        with contextlib.suppress(BlockingIOError):
            client.send(requests)

    async with carry(serve) as (handler, address):
        before = len(os.listdir("/proc/self/fd"))
        unknown = GET.replace(b"Host: a", b"Host: b")
        clients = []
        for number in range(20):
            client = socket.create_connection(address)
            client.setblocking(False)
            if number % 4 >= 2:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            send(client, b"" if number % 2 else GET + unknown * 4000)
            clients.append(client)
        connections = handler.environment.clients
        await until(lambda: len(connections) == len(clients))

        def is_stuck(connection):
            return connection.is_read_paused and (connection.exchange is not None or connection.is_write_paused)

        while not all(is_stuck(each) for each in connections):
            for client in clients[1::2]:
                send(client, unknown * 1000)
            await asyncio.sleep(0)
        for client in clients:
            client.close()
        await until(lambda: not (connections or handler.environment.upstreams))
        await until(lambda: len(os.listdir("/proc/self/fd")) <= before + 1)  # the epoll that watches them stays
        assert handler.current.table.counters["a"].statuses == {499: len(clients) // 2}


@on_uvloop
async def test_a_crowd_of_idle_connections_makes_room_for_clients_that_ask_and_leaves_those_that_wait():
    release = asyncio.Event()

    async def serve_slowly(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while b"/slow" not in await reader.readuntil(b"\r\n\r\n") or await release.wait():
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()

    async with carry(serve_slowly) as (handler, address):
        handler.environment.settings = CarryingSettings(connection_limit=20)
        slots = handler.environment.slots
        slow_reader, slow_writer = await asyncio.open_connection(*address)
        slow_writer.write(GET.replace(b"/", b"/slow", 1))
        await until(lambda: handler.environment.upstreams)
        idle = [await asyncio.open_connection(*address) for _ in range(100)]
        await until(lambda: slots.evicted == 81)
        assert [await reader.read() for reader, _ in idle[:81]] == [b""] * 81
        for _ in range(3):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(GET)
            assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
            idle.append((reader, writer))
        assert len(handler.environment.clients) == 20
        release.set()
        assert (await slow_reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
        for _, writer in (*idle, (None, slow_writer)):
            writer.close()
        await until(lambda: not handler.environment.clients)
        assert not slots._by_address
        assert not any(slots.refused.values())


@on_uvloop
async def test_a_truncated_body_ends_in_a_reset():
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
        writer.close()

    async with carry(serve) as (_, address):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(GET)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


@on_uvloop
async def test_a_body_until_the_close_ends_in_an_end():
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 200_000)
        writer.close()

    async with carry(serve) as (_, address):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(GET)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        assert head == b"HTTP/1.1 200 OK\r\nConnection: close"
        assert body == b"x" * 200_000
        writer.close()


@on_uvloop
async def test_a_large_response_waits_for_a_slow_client_and_is_not_held_here():
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
async def test_a_large_request_waits_for_a_slow_server_and_is_not_held_here():
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
BLOCK = b"x" * 65536


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
def test_a_body_through_a_slow_reader_costs_little_memory_in_both_directions(is_chunked):
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


@on_uvloop
async def test_an_answer_reaches_a_client_that_is_still_sending():
    async with carry(serve_ok) as (_, address):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"POST / HTTP/1.1\r\nHost: b\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 500_000)
        assert (await reader.readuntil(b"\r\n")) == b"HTTP/1.1 404 Not Found\r\n"
        assert (await reader.read()).endswith(b"has this host\n")
        writer.close()


@on_uvloop
async def test_a_pooled_connection_is_used_by_the_next_client_and_left_when_its_server_ends_it():
    opened = []

    async def serve(reader, writer):
        opened.append(writer)
        await serve_ok(reader, writer)

    async with carry(serve) as (handler, address):
        for _ in range(3):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(GET)
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(2)
            writer.close()
        assert len(opened) == 1
        opened[0].close()
        await until(lambda: not handler.environment.upstreams)
        reader, writer = await asyncio.open_connection(*address)
        writer.write(GET)
        assert (await reader.readuntil(b"\r\n")) == b"HTTP/1.1 200 OK\r\n"
        assert len(opened) == 2
        writer.close()


@on_uvloop
async def test_no_server_there_is_502():
    async with carry(serve_ok) as (handler, address):
        (server,) = handler._servers.values()
        with socket.create_server(("127.0.0.1", 0)) as unused:
            server.key = server.key._replace(port=unused.getsockname()[1])
        reader, writer = await asyncio.open_connection(*address)
        writer.write(GET)
        assert (await reader.readuntil(b"\r\n")) == b"HTTP/1.1 502 Bad Gateway\r\n"
        writer.close()


UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"


@on_uvloop
async def test_a_tunnel_carries_much_both_ways_at_once_and_each_half_ends_by_itself():
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
async def test_a_tunnel_through_a_slow_side_holds_little_and_a_break_of_one_side_reaches_the_other():
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
