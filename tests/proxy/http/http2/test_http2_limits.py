"""Limits and budgets of docs/http2.md: how much work a peer may cause, and how much a connection keeps."""

import pytest

from maesh_core.proxy.http.http2.connection import CONNECTION_WINDOW_BYTES
from maesh_core.settings import CarryingSettings

from .framing import (
    CANCEL,
    CONTINUATION,
    ELSEWHERE,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    GET,
    HEADERS,
    NO_ERROR,
    PING,
    POST,
    PRIORITY,
    PROTOCOL_ERROR,
    STREAM_CLOSED,
    accept_http2,
    expect_answer,
    expect_goaway,
    frame,
    has_ended,
    open_http2,
    rst_stream,
    settings,
    window_update,
)

OK = ((":status", "200"),)
PINGS = frame(PING, 0, 0, b"12345678")


def count_pings(peer):
    return sum(message[0] == "ping" for message in peer.take())


def send_resets(client, streams):
    """Open streams, and reset each at once."""
    for stream in streams:
        if not has_ended(client):
            client.send(client.headers(stream, GET), rst_stream(stream, CANCEL))


# --- resets


@pytest.mark.parametrize("kind", ["client", "malformed"])
async def test_a_client_that_resets_too_many_streams_is_cut(open_world, kind):
    async with open_world(settings=CarryingSettings(http2_reset_limit=10)) as world:
        client = open_http2(world)
        client.take()
        for stream in range(1, 23, 2):
            assert not has_ended(client)
            if kind == "client":
                client.send(client.headers(stream, GET), rst_stream(stream, CANCEL))
            else:
                client.send(client.headers(stream, GET[1:]))
        assert client.take()[-1] == ("goaway", 21, ENHANCE_YOUR_CALM)
        assert has_ended(client)


async def test_time_and_answers_allow_more_resets(open_world):
    async with open_world(settings=CarryingSettings(http2_reset_limit=10)) as world:
        client = open_http2(world)
        send_resets(client, range(1, 21, 2))
        world.advance(1)
        send_resets(client, range(21, 31, 2))
        for stream in range(31, 41, 2):
            expect_answer(client, stream)
        send_resets(client, range(41, 51, 2))
        assert not has_ended(client)
        send_resets(client, range(51, 61, 2))
        assert has_ended(client)


async def test_resets_of_the_mesh_that_answer_early_are_not_counted(open_world):
    async with open_world(settings=CarryingSettings(http2_reset_limit=10)) as world:
        client = open_http2(world)
        for stream in range(1, 101, 2):
            client.send(client.headers(stream, ELSEWHERE, is_end=False))
            assert client.take_streams()[-1] == ("reset", stream, NO_ERROR)
        expect_answer(client, 101)


# --- frames of no use


@pytest.mark.parametrize(
    "useless",
    [PINGS, settings(), frame(PRIORITY, 0, 1, b"\0\0\0\3\1"), window_update(0, 1), frame(0x16), frame(0, 0, 1)],
    ids=["PING", "SETTINGS", "PRIORITY", "WINDOW_UPDATE", "unknown", "empty DATA"],
)
async def test_a_client_that_sends_too_many_frames_of_no_use_is_cut(open_world, useless):
    async with open_world(settings=CarryingSettings(http2_control_limit=100)) as world:
        client = open_http2(world)  # with SETTINGS and an acknowledgement
        client.send(client.headers(1, POST, is_end=False))
        client.take()
        client.send(useless * 98)
        assert not has_ended(client)
        client.take()
        client.send(useless)
        expect_goaway(client, ENHANCE_YOUR_CALM)


async def test_a_header_block_in_too_many_frames_is_cut(open_world):
    async with open_world(settings=CarryingSettings(http2_control_limit=100)) as world:
        client = open_http2(world)
        client.take()
        client.send(frame(HEADERS, END_STREAM, 1), frame(CONTINUATION, 0, 1) * 99)
        expect_goaway(client, ENHANCE_YOUR_CALM)


async def test_a_server_that_sends_too_many_frames_of_no_use_is_left(open_world):
    async with open_world(scheme="h2c", settings=CarryingSettings(http2_control_limit=100)) as world:
        client = open_http2(world)
        client.send(client.headers(1, POST))
        server = await accept_http2(world)
        server.take()
        server.send(PINGS * 100)
        expect_goaway(server, ENHANCE_YOUR_CALM)
        await world.settle()
        assert dict(client.take_streams()[0][2])[b":status"] == b"502"


async def test_answers_before_the_end_of_a_request_allow_more_frames(open_world):
    limits = CarryingSettings(http2_control_limit=100, http2_reset_limit=10)
    call = (*POST[:2], *ELSEWHERE[2:], ("content-type", "application/grpc"))
    async with open_world(settings=limits) as world:
        client = open_http2(world)
        for stream in range(1, 801, 2):
            client.send(client.headers(stream, call, is_end=False))
            assert [message[0] for message in client.take_streams()] == ["headers", "reset"]
            client.send(client.data(stream, is_end=True), rst_stream(stream, NO_ERROR))  # as clients of gRPC do
        expect_answer(client, 801)


async def test_time_data_and_answers_allow_more_frames(open_world):
    async with open_world(settings=CarryingSettings(http2_control_limit=100)) as world:
        client = open_http2(world)
        client.send(PINGS * 98)
        world.advance(0.5)
        client.send(PINGS * 50)
        expect_answer(client, 1)
        client.send(PINGS * (8 + 4))  # a stream, and a frame of data
        assert not has_ended(client)
        client.send(PINGS)
        assert has_ended(client)


# --- turns


async def test_one_turn_processes_a_limited_number_of_frames(world):
    client = open_http2(world)
    client.take()
    client.send(PINGS * 300)
    assert count_pings(client) == 256
    await world.settle()
    assert count_pings(client) == 44


async def test_headers_count_as_several_frames(world):
    client = open_http2(world)
    client.take()
    client.send(*(client.headers(stream, ELSEWHERE) for stream in range(1, 81, 2)))
    assert len(client.take_streams()) == 2 * 256 // 8
    await world.settle()
    assert len(client.take_streams()) == 2 * (40 - 256 // 8)


async def test_waiting_streams_send_in_turns(world):
    client = open_http2(world)
    client.send(client.headers(1, GET), client.headers(3, GET), client.headers(5, GET))
    for server in [await world.accept() for _ in range(3)]:
        server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 65535\r\n\r\n" + bytes(65535))
    await world.settle()
    assert [each[1] for each in client.take_streams() if each[0] == "data"] == [1] * 4  # the first fills the window
    client.send(window_update(0, 4 * 16384))
    assert [each[1:3] for each in client.take_streams()] == [(stream, bytes(16384)) for stream in (3, 5, 3, 5)]


# --- streams and windows


async def test_more_streams_than_the_limit_need_another_connection(open_world):
    async with open_world(scheme="h2c", settings=CarryingSettings(http2_stream_limit=200)) as world:
        client = open_http2(world)
        client.send(*(client.headers(stream, GET) for stream in range(1, 203, 2)))
        first, second = await accept_http2(world), await accept_http2(world)
        assert [len(server.take_streams()) for server in (first, second)] == [100, 1]


async def test_the_window_of_a_connection_is_larger_than_that_of_all_streams(world):
    client = open_http2(world)
    (update,) = [message for message in client.take() if message[0] == "window"]
    assert update == ("window", 0, CONNECTION_WINDOW_BYTES - 65535)


async def test_frames_of_a_limited_number_of_reset_streams_are_ignored(world):
    client = open_http2(world)
    for stream in range(1, 515, 2):
        client.send(client.headers(stream, ELSEWHERE, is_end=False))
    client.send(client.data(3, b"a"))
    assert not has_ended(client)
    client.take()
    client.send(client.data(1, b"a"))
    expect_goaway(client, STREAM_CLOSED)


# --- caches


async def test_a_client_s_connection_keeps_a_limited_number_of_small_requests(world):
    client = open_http2(world)
    for stream in range(1, 101, 2):
        client.send(client.headers(stream, (*ELSEWHERE, ("x-a", f"{stream}"))))
        assert len(client.peer.protocol._requests) == (stream // 2) % 32 + 1
    kept = len(client.peer.protocol._requests)
    client.send(client.headers(101, (*ELSEWHERE, ("x-a", "a" * 2048))))
    assert len(client.peer.protocol._requests) == kept
    expect_answer(client, 103)


async def test_a_server_s_connection_keeps_a_limited_number_of_small_messages(open_world):
    async with open_world(scheme="h2c") as world:
        client = open_http2(world)
        client.send(client.headers(1, (*GET, ("x-a", "a" * 2048))))
        server = await accept_http2(world)
        server.send(server.headers(1, (*OK, ("x-a", "a" * 2048))))
        assert (server.peer.protocol._requests, server.peer.protocol._responses) == ({}, {})
        for stream in range(3, 203, 2):
            client.send(client.headers(stream, (*GET, ("x-a", f"{stream}"))))
            await world.settle()
            server.send(server.headers(stream, (*OK, ("x-a", f"{stream}"))))
            assert 0 < len(server.peer.protocol._requests) <= 64
            assert 0 < len(server.peer.protocol._responses) <= 64
        await world.settle()


async def test_a_malformed_stream_is_reset_and_not_kept(world):
    client = open_http2(world)
    client.take()
    client.send(client.headers(1, GET[1:]))
    assert client.take() == [("reset", 1, PROTOCOL_ERROR)]
    assert not client.peer.protocol.streams


# --- ends


async def test_a_drain_lets_a_client_finish_what_it_has_sent_before_it_knows(world):
    client = open_http2(world)
    client.send(client.headers(1, GET))
    server = await world.accept()
    client.take()
    client.peer.protocol.start_draining()
    await world.settle()
    first, (_, payload, is_ack) = client.take()
    assert (first, is_ack) == (("goaway", (1 << 31) - 1, NO_ERROR), False)
    client.send(client.headers(3, ELSEWHERE))
    assert [message[:2] for message in client.take()] == [("headers", 3), ("data", 3)]
    world.handler.environment.is_draining = True
    client.send(frame(PING, 1, 0, payload), client.headers(5, ELSEWHERE))
    assert client.take() == [("goaway", 3, NO_ERROR)]
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    await world.settle()
    assert [message[:2] for message in client.take()] == [("headers", 1)]
    assert has_ended(client)


async def test_the_last_request_of_a_connection_is_followed_by_goaway(open_world):
    async with open_world(settings=CarryingSettings(request_limit=2)) as world:
        client = open_http2(world)
        client.take()
        client.send(client.headers(1, ELSEWHERE), client.headers(3, ELSEWHERE))
        assert client.take()[-1] == ("goaway", 3, NO_ERROR)
        assert has_ended(client)
