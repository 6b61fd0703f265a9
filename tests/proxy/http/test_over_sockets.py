"""The engine over real sockets and uvloop: what a fake transport cannot show."""

import asyncio
import contextlib
import os
import socket
import struct

import pytest

from maesh_core.proxy.http.clients import newcomers
from maesh_core.settings import CarryingSettings
from maesh_testing import find_free_port

from .socket_engine import GET, carry, on_uvloop, until


@pytest.fixture(autouse=True, params=[newcomers.HAND_OVER_READS, 0], ids=["newcomer", "handed-over"])
def _kind_of_transport(request, monkeypatch):
    """Run each test with a client whose connection is new, and with one that the event loop carries."""
    monkeypatch.setattr(newcomers, "HAND_OVER_READS", request.param)


async def serve_ok(reader, writer):
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n%b" % head[5:7])
    writer.close()


@on_uvloop
async def test_a_half_closed_client_gets_its_pipelined_answers_if_such_clients_are_served():
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
async def test_a_client_that_leaves_a_silent_stream_ends_it_at_the_server():
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
        assert handler.current.table.counters["a"].statuses.by_status == {499: 1}


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
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # it is soon full
            client.connect(address)
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
        assert handler.current.table.counters["a"].statuses.by_status == {499: len(clients) // 2}


@on_uvloop
async def test_idle_connections_are_evicted_for_new_clients_and_waiting_ones_are_kept():
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
async def test_a_body_until_the_close_ends_with_a_fin():
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
async def test_an_answer_reaches_a_client_that_is_still_sending():
    async with carry(serve_ok) as (_, address):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"POST / HTTP/1.1\r\nHost: b\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 500_000)
        assert (await reader.readuntil(b"\r\n")) == b"HTTP/1.1 404 Not Found\r\n"
        assert (await reader.read()).endswith(b"has this host\n")
        writer.close()


@on_uvloop
async def test_a_pooled_connection_serves_the_next_client_until_its_server_ends_it():
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
async def test_an_unreachable_server_is_502():
    async with carry(serve_ok) as (handler, address):
        (server,) = handler._servers.values()
        server.key = server.key._replace(port=find_free_port())
        reader, writer = await asyncio.open_connection(*address)
        writer.write(GET)
        assert (await reader.readuntil(b"\r\n")) == b"HTTP/1.1 502 Bad Gateway\r\n"
        writer.close()
