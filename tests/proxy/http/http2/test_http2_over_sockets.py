"""HTTP/2 over real sockets and uvloop: a connection that changes its transport in the middle of its streams."""

import asyncio
import contextlib

import pytest

from maesh_core import engine
from maesh_core.proxy.http.clients import newcomers
from maesh_core.proxy.http.http2.connection import CLOSE_LIMIT_S
from maesh_core.settings import CarryingSettings

from ..socket_engine import carry, on_uvloop, until
from .framing import NO_ERROR, PING, PREFACE, SETTINGS_ACK, FramePeer, frame, settings, window_update

GET = ((":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/"))
POST = ((":method", "POST"), *GET[1:])
STREAMS = 40
BODY = bytes(index % 251 for index in range(300_000))


class SocketPeer:
    """What FramePeer needs, over a pair of asyncio's streams."""

    def __init__(self, writer):
        self.writer = writer
        self.received = bytearray()

    def send(self, data):
        self.writer.write(data)

    def take(self):
        taken = bytes(self.received)
        self.received.clear()
        return taken


async def open_http2(address, *frames):
    reader, writer = await asyncio.open_connection(*address, limit=1000)
    client = FramePeer(SocketPeer(writer))
    client.send(PREFACE, *frames)
    return reader, writer, client


async def receive(reader, client):
    """Return the next messages; none after the end."""
    data = await reader.read(10_000)
    client.peer.received += data
    return client.take() if data else None


async def serve_slowly(reader, writer):
    """Answer in pieces, so that responses are sent at any time."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY))
            for at in range(0, len(BODY), 50_000):
                writer.write(BODY[at : at + 50_000])
                await writer.drain()
    writer.close()


@pytest.mark.parametrize("reads", [0, 1, 2, 5, 17])
def test_a_connection_that_is_handed_over_between_its_frames_loses_no_byte(monkeypatch, reads):
    monkeypatch.setattr(newcomers, "HAND_OVER_READS", reads)

    async def test():
        limits = CarryingSettings(http2_control_limit=100_000)
        async with carry(serve_slowly, limits) as (handler, address):
            reader, writer, client = await open_http2(
                address, settings(INITIAL_WINDOW_SIZE=1 << 20), window_update(0, 1 << 30)
            )
            received = {stream: bytearray() for stream in range(1, 2 * STREAMS, 2)}
            left = set(received)
            for stream in received:
                client.send(client.headers(stream, GET))
                await asyncio.sleep(0)
            while left:
                messages = await receive(reader, client)
                assert messages is not None, f"the connection ended, {len(left)} streams are left"
                for message in messages:
                    assert message[0] not in ("reset", "goaway"), message
                    if message[0] == "data":
                        received[message[1]] += message[2]
                        client.send(frame(PING, 0, 0, b"12345678"))  # so that the mesh reads while it sends
                    if message[0] in ("data", "headers") and message[3]:
                        left.remove(message[1])
            assert set(map(bytes, received.values())) == {BODY}
            writer.close()
            await until(lambda: not handler.environment.clients)

    on_uvloop(test)()


@pytest.mark.skipif(engine.form == "compiled", reason="a method of a compiled class cannot be replaced")
@pytest.mark.parametrize("end", ["", "drain", "fail"])
def test_what_is_written_during_the_handing_over_is_sent_even_if_the_socket_is_full(monkeypatch, end):
    monkeypatch.setattr(newcomers, "HAND_OVER_READS", 1)
    hand_over = newcomers.Newcomers._hand_over
    written = frame(PING, 0, 0, b"87654321") * 500_000  # 8.5 MB: more than the socket holds

    def write_after(self, connection):
        protocol = connection.protocol
        hand_over(self, connection)
        protocol.out.append(written)
        protocol._flush()
        if end == "fail":
            protocol.fail(NO_ERROR)
        elif end == "drain":
            protocol._end_gently()

    monkeypatch.setattr(newcomers.Newcomers, "_hand_over", write_after)

    async def test():
        async with carry(serve_slowly) as (handler, address):
            reader, writer, client = await open_http2(address, settings())
            await reader.read(1)
            client.send(frame(PING, 0, 0, b"12345678"))
            received = 0
            while received < len(written):
                data = await reader.read(1 << 20)
                assert data, f"{received} of {len(written)} bytes"
                received += len(data)
            if end:
                await reader.read()
            writer.close()
            await until(lambda: not handler.environment.clients)

    on_uvloop(test)()


def test_the_last_response_of_a_connection_arrives_whole_while_the_client_goes_on_sending():
    async def test():
        async with carry(serve_slowly, CarryingSettings(request_limit=1)) as (handler, address):
            windows = (settings(INITIAL_WINDOW_SIZE=1 << 20), window_update(0, 1 << 30))
            reader, writer, client = await open_http2(address, *windows)
            client.send(client.headers(1, GET))
            received, seen = b"", []
            while (messages := await receive(reader, client)) is not None:
                seen += [message[0] for message in messages]
                received += b"".join(message[2] for message in messages if message[0] == "data")
                client.send(window_update(1, 1000))
                await asyncio.sleep(0.001)  # the mesh has written everything before all of it is read
            assert received == BODY
            assert "goaway" in seen
            writer.close()
            await until(lambda: not handler.environment.clients)

    on_uvloop(test)()


@on_uvloop
async def test_a_server_that_reads_nothing_more_does_not_keep_a_connection_that_is_closed():
    left = asyncio.Event()

    async def serve(reader, writer):
        writer.write(settings(INITIAL_WINDOW_SIZE=1 << 30) + window_update(0, 1 << 30) + SETTINGS_ACK)
        writer.transport.pause_reading()
        await left.wait()
        writer.close()

    async with carry(serve, scheme="h2c") as (handler, address):
        _, writer, client = await open_http2(address, settings(), SETTINGS_ACK)
        client.send(client.headers(1, POST, is_end=False))
        upstreams = handler.environment.upstreams
        await until(lambda: any(each.peer_window == 1 << 30 for each in upstreams))
        (upstream,) = upstreams
        while not upstream.transport.get_write_buffer_size():
            for _ in range(8):
                client.send(client.data(1, BODY[:16384]))
            await asyncio.sleep(0)
        raw = upstream.transport.get_extra_info("socket")
        writer.transport.abort()
        await until(lambda: not upstream.streams)
        upstream.close()
        for _ in range(20):
            await asyncio.sleep(0)
        assert raw.fileno() >= 0  # the bytes wait for the server
        clock = handler.environment.clock
        clock._time = lambda: clock.now + CLOSE_LIMIT_S
        clock.tick()
        await until(lambda: not upstreams)
        await until(lambda: raw.fileno() < 0)
        left.set()
