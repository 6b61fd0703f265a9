"""The life of HTTP connections over a path: kept, replaced, upgraded, cut, and ended when a service becomes strict."""

import asyncio
import contextlib

import pytest

from .fake_transport import FakeTransport, Receiver
from .http_sender import THERE, HttpServer, Sender
from .path_scenes import ENCRYPTED, GET, Recording, run


def test_kept_connections_are_replaced_when_a_node_starts_and_stops_to_take_part():
    async def scene():
        async with HttpServer() as server, Receiver() as receiver:
            transport = FakeTransport()
            async with Sender(transport, server.port) as sender:
                assert await sender.ask() == (200, "ok")
                sender.paths.apply_nodes({THERE: receiver.address}, {})
                assert await sender.ask() == (200, "ok")
                assert sender.count_paths() == {("clear", "not offered"): 1, ENCRYPTED: 1}
                sender.paths.apply_nodes({}, {})
                assert await sender.ask() == (200, "ok")
                assert sender.count_paths() == {("clear", "not offered"): 2, ENCRYPTED: 1}

    run(scene())


class GatedServer:
    """A server that answers when its gate is open."""

    def __init__(self):
        self.gate, self.asked = asyncio.Event(), asyncio.Event()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()

    async def _serve(self, reader, writer):
        while await reader.readline():
            await reader.readuntil(b"\r\n\r\n")
            self.asked.set()
            await self.gate.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()


LONGER_GET = GET.replace(b"\r\n\r\n", b"\r\nX: y\r\n\r\n")


def test_a_busy_connection_in_clear_does_not_return_to_the_pool_of_a_node_that_takes_part_now():
    async def scene():
        async with GatedServer() as gated, Receiver() as receiver, Sender(FakeTransport(), gated.port) as sender:
            busy = asyncio.ensure_future(sender.ask(LONGER_GET))
            await gated.asked.wait()
            sender.paths.apply_nodes({THERE: receiver.address}, {})
            gated.gate.set()
            assert await busy == (200, "ok")
            (server,) = sender.servers
            while server.opened:  # noqa: ASYNC110 - has no event
                await asyncio.sleep(0)
            assert server.idle == []
            assert await sender.ask(LONGER_GET) == (200, "ok")
            assert sender.count_paths() == {("clear", "not offered"): 1, ENCRYPTED: 1}

    run(scene())


def test_a_kept_connection_closes_when_its_tunnel_is_to_be_replaced():
    async def scene():
        async with HttpServer() as server, Receiver() as receiver:
            transport = FakeTransport(there=receiver.address)
            async with Sender(transport, server.port, mode="strict") as sender:
                assert await sender.ask() == (200, "ok")
                transport.retire()
                (target,) = sender.servers
                assert target.idle == []
                assert await sender.ask() == (200, "ok")
                assert (server.connections, len(target.idle), target.opened) == (2, 1, 1)

    run(scene())


def test_a_busy_connection_ends_with_its_response_when_its_tunnel_is_to_be_replaced():
    async def scene():
        async with GatedServer() as gated, Receiver() as receiver:
            transport = FakeTransport(there=receiver.address)
            async with Sender(transport, gated.port, mode="strict") as sender:
                busy = asyncio.ensure_future(sender.ask(LONGER_GET))
                await gated.asked.wait()
                transport.retire()
                gated.gate.set()
                assert await busy == (200, "ok")
                (server,) = sender.servers
                while server.opened:  # noqa: ASYNC110 - has no event
                    await asyncio.sleep(0)
                assert server.idle == []
                assert await sender.ask(LONGER_GET) == (200, "ok")
                assert sender.count_paths() == {ENCRYPTED: 2}

    run(scene())


def test_an_upgraded_connection_goes_on_over_a_path_and_is_half_closed():
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
        writer.write(b"got " + await reader.read())
        writer.close()

    async def scene():
        serving = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with Receiver() as receiver:
            transport = FakeTransport(there=receiver.address)
            async with Sender(transport, serving.sockets[0].getsockname()[1], mode="strict") as sender:
                reader, writer = await asyncio.open_connection(*sender.address)
                writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
                assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
                writer.write(b"x" * 300_000)
                writer.write_eof()
                assert await reader.read() == b"got " + b"x" * 300_000
                writer.close()
        serving.close()

    run(scene())


def test_a_body_that_is_cut_on_the_path_does_not_look_complete():
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
        await writer.drain()
        await reader.read()
        writer.close()

    async def scene():
        serving = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with Receiver() as receiver:
            transport = FakeTransport(there=receiver.address)
            async with Sender(transport, serving.sockets[0].getsockname()[1]) as sender:
                reader, writer = await asyncio.open_connection(*sender.address)
                writer.write(GET)
                await reader.readuntil(b"abc")
                for each in list(receiver.connections):
                    each.transport.abort()
                with pytest.raises(ConnectionResetError):
                    await reader.read()
                writer.transport.abort()
        serving.close()

    run(scene())


class Holding(Recording):
    """A server that answers no request, and upgrades those that offer it."""

    async def _serve(self, reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            if b"Upgrade" in self.heads[-1]:
                writer.write(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n")
            await reader.read()
        writer.transport.abort()


@pytest.mark.parametrize("fields", [b"", b"Connection: upgrade\r\nUpgrade: chat\r\n"], ids=["request", "upgrade"])
def test_what_is_under_way_in_clear_ends_a_while_after_the_service_has_become_strict(fields):
    async def scene():
        async with Holding() as server, Receiver() as receiver:
            transport = FakeTransport(there=receiver.address)
            async with Sender(transport, server.port, mode="off") as sender:
                reader, writer = await asyncio.open_connection(*sender.address)
                writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n")
                if fields:
                    assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
                while not server.heads:  # noqa: ASYNC110 - has no event
                    await asyncio.sleep(0)
                sender.mode = "strict"
                sender.apply()
                environment, now = sender.handler.environment, sender.clock.now
                sender.handler._sweep(now + 29)
                assert environment.tunnels if fields else environment.upstreams
                sender.handler._sweep(now + 31)
                if fields:
                    with pytest.raises(ConnectionResetError):
                        await reader.read()
                else:
                    assert b" 502 " in await reader.readuntil(b"\r\n\r\n")
                writer.transport.abort()

    run(scene())
