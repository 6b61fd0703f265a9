"""Slow peers: what is buffered for them is bounded, and they delay nobody else."""

import pytest

from maesh_core.proxy.http.http2.stream import STREAM_WINDOW_BYTES
from maesh_core.proxy.http.transports import PENDING_LIMIT_BYTES, WRITE_HIGH_BYTES
from maesh_core.settings import CarryingSettings

from .framing import (
    DATA,
    FLOW_CONTROL_ERROR,
    GET,
    NO_ERROR,
    POST,
    accept_http2,
    frame,
    has_ended,
    open_http2,
    window_update,
)

OK = ((":status", "200"),)
PIECE = b"x" * 16384


def sum_data(messages, stream):
    return sum(len(message[2]) for message in messages if message[0] == "data" and message[1] == stream)


def sum_credit(messages, stream):
    return sum(message[2] for message in messages if message[0] == "window" and message[1] == stream)


async def test_a_stream_that_the_client_does_not_read_holds_up_no_other(open_world):
    async with open_world(scheme="h2c") as world:
        client = open_http2(world, INITIAL_WINDOW_SIZE=1000)
        client.send(window_update(0, 1 << 20), client.headers(1, GET), client.headers(3, GET))
        server = await accept_http2(world)
        server.take()
        server.send(server.headers(1, OK, is_end=False), server.headers(3, OK, is_end=False))
        left, sent = STREAM_WINDOW_BYTES, 0
        while left:
            server.send(server.data(1, PIECE))
            sent += len(PIECE)
            await world.settle()
            left += sum_credit(server.take(), 1) - len(PIECE)
        assert sent <= STREAM_WINDOW_BYTES + WRITE_HIGH_BYTES
        server.send(server.data(1, PIECE))  # beyond its window
        await world.settle()
        assert ("reset", 1, FLOW_CONTROL_ERROR) in server.take()
        server.send(server.data(3, b"y" * 500, is_end=True))
        await world.settle()
        messages = client.take()
        assert sum_data(messages, 1) == 1000
        assert ("data", 3, b"y" * 500, True) in messages


async def test_a_slow_reader_gets_everything_in_order_when_it_reads(open_world):
    async with open_world(scheme="h2c") as world:
        client = open_http2(world, INITIAL_WINDOW_SIZE=0)
        client.send(client.headers(1, GET))
        server = await accept_http2(world)
        body = bytes(index % 251 for index in range(100_000))
        server.send(server.headers(1, OK, is_end=False))
        for at in range(0, len(body), 10_000):
            server.send(server.data(1, body[at : at + 10_000]))
        server.send(server.headers(1, (("grpc-status", "0"),)))
        await world.settle()
        assert [message for message in client.take_streams() if message[0] == "data"] == []
        received, is_ended = b"", False
        for size in (1, 7, 9000, 30_000, 100_000):
            client.send(window_update(1, size), window_update(0, size))
            await world.settle()
            for message in client.take_streams():
                received += message[2] if message[0] == "data" else b""
                is_ended = is_ended or message[-1]
        assert received == body
        assert is_ended


async def test_an_upload_that_the_server_does_not_read_holds_up_no_other(open_world):
    async with open_world(scheme="h2c") as world:
        client = open_http2(world)
        client.send(client.headers(1, POST, is_end=False), client.headers(3, POST, is_end=False))
        server = await accept_http2(world, INITIAL_WINDOW_SIZE=1000)
        credit = sum_credit(client.take(), 1)
        for _ in range(STREAM_WINDOW_BYTES // len(PIECE)):
            client.send(client.data(1, PIECE))
            await world.settle()
        credit += sum_credit(client.take(), 1)
        assert credit <= WRITE_HIGH_BYTES + len(PIECE)
        client.send(client.data(3, b"y" * 500, is_end=True))
        await world.settle()
        messages = server.take()
        assert sum_data(messages, 1) == 1000
        assert ("data", 3, b"y" * 500, True) in messages
        server.send(window_update(1, 1 << 20), window_update(0, 1 << 20))
        await world.settle()
        assert sum_data(server.take(), 1) == STREAM_WINDOW_BYTES - 1000
        assert sum_credit(client.take(), 1) > 0


async def test_a_body_that_waits_for_a_connection_is_bounded(world):
    client = open_http2(world)
    client.send(client.headers(1, POST, is_end=False))
    left, sent = STREAM_WINDOW_BYTES, 0
    while left:
        client.send(client.data(1, PIECE))
        sent += len(PIECE)
        left += sum_credit(client.take(), 1) - len(PIECE)
    assert sent <= STREAM_WINDOW_BYTES + PENDING_LIMIT_BYTES
    client.send(client.data(1, b"more"))
    assert client.take() == [("reset", 1, FLOW_CONTROL_ERROR)]


async def test_a_client_that_reads_nothing_at_all_stops_the_server(open_world):
    async with open_world(scheme="h2c") as world:
        client = open_http2(world, INITIAL_WINDOW_SIZE=1 << 30)
        client.send(window_update(0, 1 << 30), client.headers(1, GET))
        server = await accept_http2(world)
        server.send(server.headers(1, OK, is_end=False))
        await world.settle()
        client.peer.stop_taking()
        server.take()
        for _ in range(STREAM_WINDOW_BYTES // len(PIECE)):
            server.send(server.data(1, PIECE))
            await world.settle()
        assert sum_credit(server.take(), 1) <= WRITE_HIGH_BYTES + len(PIECE)
        client.peer.take_again()
        await world.settle()
        assert sum_data(client.take(), 1) == STREAM_WINDOW_BYTES
        assert sum_credit(server.take(), 1) > 0


async def test_waiting_streams_take_turns(open_world):
    async with open_world(scheme="h2c") as world:
        client = open_http2(world)
        client.send(client.headers(1, GET), client.headers(3, GET))
        server = await accept_http2(world)
        server.send(server.headers(1, OK, is_end=False), server.headers(3, OK, is_end=False))
        for stream in (1, 3):
            for _ in range(4):
                server.send(server.data(stream, PIECE))
        await world.settle()
        client.take()
        client.send(window_update(1, 1 << 20), window_update(3, 1 << 20), window_update(0, 4 * len(PIECE)))
        await world.settle()
        messages = client.take()
        assert sum_data(messages, 3) >= len(PIECE)


async def test_the_connection_s_credit_is_returned_also_for_padding_and_for_streams_that_were_reset(open_world):
    async with open_world(settings=CarryingSettings(http2_control_limit=100_000)) as world:
        client = open_http2(world)
        client.send(client.headers(1, POST, is_end=False))
        client.send(client.headers(3, (*POST, ("content-length", "1")), is_end=False), client.data(3, b"too long"))
        assert ("reset", 3, 1) in client.take()
        padded = frame(DATA, 8, 3, b"\xff" + b"\0" * 16000)
        credit = 0
        for _ in range(140):
            client.send(padded)
            await world.settle()
            credit += sum_credit(client.take(), 0)
        assert credit >= 2 << 20


@pytest.mark.parametrize("is_answered", [False, True])
async def test_a_reader_that_stops_for_too_long_is_cut(open_world, is_answered):
    async with open_world(scheme="h2c") as world:
        client = open_http2(world, INITIAL_WINDOW_SIZE=10)
        client.send(client.headers(1, GET))
        server = await accept_http2(world)
        server.send(server.headers(1, OK, is_end=False))
        for _ in range(5):
            server.send(server.data(1, PIECE))
        if is_answered:
            server.send(server.data(1, b"", is_end=True))
        await world.settle()
        client.take()
        world.advance(40)
        client.send(window_update(1, 10))
        await world.settle()
        world.advance(40)  # it has read a little, so it gets another 60 s
        assert [message for message in client.take() if message[0] == "reset"] == []
        world.advance(61)
        await world.settle()
        assert [message[:2] for message in client.take() if message[0] == "reset"] == [("reset", 1)]


async def test_a_drain_lets_the_client_know_before_streams_are_refused(world):
    client = open_http2(world)
    client.send(client.headers(1, GET))
    server = await world.accept()
    client.take()
    world.handler.start_draining()
    await world.settle()
    first, ping = client.take()
    assert first == ("goaway", (1 << 31) - 1, NO_ERROR)
    client.send(client.headers(3, (*GET[:2], (":authority", "other"), GET[3])))
    assert dict(client.take_streams()[0][2])[b":status"] == b"404"
    client.send(frame(6, 1, 0, ping[1]))
    await world.settle()
    assert client.take() == [("goaway", 3, NO_ERROR)]
    client.send(client.headers(5, GET))
    server.take()
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    await world.settle()
    assert [message[:2] for message in client.take()] == [("headers", 1)]
    assert has_ended(client)


async def test_the_limit_of_requests_ends_the_connection_with_a_goaway(open_world):
    async with open_world(settings=CarryingSettings(request_limit=2)) as world:
        client = open_http2(world)
        unknown = (*GET[:2], (":authority", "other"), GET[3])
        client.send(client.headers(1, unknown), client.headers(3, GET))
        assert ("goaway", 3, NO_ERROR) in client.take()
        client.send(client.headers(5, unknown))
        assert client.take_streams() == []
