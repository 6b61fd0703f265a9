"""Many streams over one connection: turns, credit in small steps, and memory for small pieces."""

import tracemalloc

import pytest

from maesh_core.proxy.http.http2.stream import JOINED_BYTES
from maesh_core.settings import CarryingSettings

from .framing import (
    CANCEL,
    GET,
    INTERNAL_ERROR,
    NO_ERROR,
    POST,
    REFUSED_STREAM,
    accept_http2,
    open_http2,
    rst_stream,
    window_update,
)

OK = ((":status", "200"),)
PIECE = b"x" * 16384


def count_data(messages):
    counted = {}
    for message in messages:
        if message[0] == "data":
            counted[message[1]] = counted.get(message[1], 0) + len(message[2])
    return counted


async def test_streams_take_turns_at_a_window_that_opens_a_little_at_a_time(open_world):
    async with open_world(scheme="h2c") as world:
        client = open_http2(world, INITIAL_WINDOW_SIZE=1 << 30)
        streams = (1, 3, 5, 7)
        client.send(*(client.headers(each, GET) for each in streams))
        server = await accept_http2(world)
        server.send(*(server.headers(each, OK, is_end=False) for each in streams))
        for each in streams:
            server.send(*(server.data(each, PIECE) for _ in range(5)))
        await world.settle()
        client.take()
        received = dict.fromkeys(streams, 0)
        for _ in range(8):
            client.send(window_update(0, len(PIECE)))
            await world.settle()
            for stream, size in count_data(client.take()).items():
                received[stream] += size
        assert min(received.values()) >= len(PIECE)
        assert max(received.values()) <= 3 * len(PIECE)


@pytest.mark.parametrize("step", [1024, 4096, 16384])
async def test_a_download_may_be_credited_in_small_steps(world, step):
    client = open_http2(world, INITIAL_WINDOW_SIZE=1 << 20)
    client.send(window_update(0, 1 << 20), client.headers(1, GET))
    server = await world.accept()
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (20 << 20))
    received = 0
    for _ in range(80):
        server.send(b"x" * (1 << 18))
        await world.settle()
        size = sum(count_data(client.take()).values())
        received += size
        client.send((window_update(0, step) + window_update(1, step)) * (size // step))
        await world.settle()
    received += sum(count_data(client.take()).values())
    assert received == 20 << 20


async def test_small_pieces_of_waiting_data_use_little_more_memory_than_their_bytes(open_world):
    async with open_world(scheme="h2c", settings=CarryingSettings(http2_control_limit=100_000)) as world:
        client = open_http2(world)
        client.send(client.headers(1, POST, is_end=False))
        await accept_http2(world, INITIAL_WINDOW_SIZE=0)
        tracemalloc.start()
        try:
            for _ in range(100):
                client.send(client.data(1, b"ab") * 200)
                await world.settle()
            world.transcript.clear()
            kept_bytes, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert JOINED_BYTES < 40_000 < kept_bytes < 400_000


async def test_data_of_a_stream_above_a_goaway_is_ignored_and_the_others_go_on(open_world):
    async with open_world(settings=CarryingSettings(request_limit=2)) as world:
        client = open_http2(world)
        client.send(client.headers(1, GET), client.headers(3, GET), client.headers(5, POST, is_end=False))
        client.send(client.data(5, b"abc", is_end=True))
        servers = [await world.accept(), await world.accept()]
        assert [message for message in client.take() if message[0] == "goaway"] == [("goaway", 3, NO_ERROR)]
        for server in servers:
            server.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        await world.settle()
        assert sorted(message[1] for message in client.take() if message[0] == "headers") == [1, 3]


async def test_a_request_meets_a_stale_connection_only_once(open_world):
    async with open_world(scheme="h2c") as world:
        client = open_http2(world)
        sent = 0
        client.send(client.headers(1, (*GET[:3], (":path", "/bad"))))
        for stream in range(3, 13, 2):
            client.send(client.headers(stream, GET))
            await world.settle()
            if not world.connects:
                break
            server = await accept_http2(world)
            asked = {dict(message[2])[b":path"]: message[1] for message in server.take_streams()}
            sent += b"/bad" in asked
            server.send(server.headers(asked[b"/"], OK))
            server.peer.lose()
            await world.settle()
        assert sent == 2
        answers = {message[1]: dict(message[2])[b":status"] for message in client.take() if message[0] == "headers"}
        assert answers[1] == b"502"


async def test_a_server_that_allows_no_streams_keeps_no_connections(open_world):
    async with open_world(scheme="h2c") as world:
        client = open_http2(world)
        client.send(client.headers(1, GET))
        while True:
            await world.settle()
            if not world.connects:
                break
            server = await accept_http2(world, MAX_CONCURRENT_STREAMS=0)
            server.send(*(rst_stream(message[1], REFUSED_STREAM) for message in server.take_streams()))
        assert dict(client.take_streams()[0][2])[b":status"] == b"502"
        assert not world.handler.environment.upstreams


@pytest.mark.parametrize(
    ("code", "told"), [(NO_ERROR, INTERNAL_ERROR), (REFUSED_STREAM, INTERNAL_ERROR), (CANCEL, CANCEL)]
)
async def test_a_partial_response_is_never_told_to_be_complete_or_unprocessed(open_world, code, told):
    async with open_world(scheme="h2c") as world:
        client = open_http2(world)
        client.send(client.headers(1, GET))
        server = await accept_http2(world)
        server.send(server.headers(1, OK, is_end=False), server.data(1, b"part"), rst_stream(1, code))
        await world.settle()
        assert client.take_streams()[-1] == ("reset", 1, told)


async def test_a_response_with_too_many_fields_is_502(open_world):
    async with open_world(scheme="h2c") as world:
        client = open_http2(world)
        client.send(client.headers(1, GET))
        server = await accept_http2(world)
        server.send(server.headers(1, (*OK, *((f"x-{number}", "1") for number in range(101)))))
        await world.settle()
        assert dict(client.take_streams()[0][2])[b":status"] == b"502"
