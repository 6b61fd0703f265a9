"""Peers that do not read, or that refuse everything: what the mesh buffers and tries for them."""

import pytest

from maesh_core.proxy.http.http2.connection import CLOSE_LIMIT_S, OUTPUT_LIMIT_BYTES
from maesh_core.proxy.http.http2.frames import render_goaway
from maesh_core.proxy.http.http2.multiplexed_upstream import RESETS_PER_CONNECTION
from maesh_core.settings import CarryingSettings

from .framing import (
    CANCEL,
    ELSEWHERE,
    GET,
    NO_ERROR,
    PING,
    PINGS,
    PROTOCOL_ERROR,
    FramePeer,
    accept_http2,
    count_opened,
    expect_answer,
    frame,
    goaway,
    has_ended,
    open_http2,
    rst_stream,
    settings,
    status_of,
)

OK = ((":status", "200"),)
HEAD = ((":method", "HEAD"), *ELSEWHERE[1:])


# --- servers that get no more requests on their connection


async def test_a_connection_on_which_many_requests_were_cancelled_is_replaced(h2c):
    client = open_http2(h2c)
    client.send(client.headers(1, GET))
    server = await accept_http2(h2c)
    for stream in range(3, 2 * RESETS_PER_CONNECTION + 3, 2):
        assert not h2c.connects
        client.send(client.headers(stream, GET), rst_stream(stream, CANCEL))
    client.send(client.headers(999, GET))
    second = await accept_http2(h2c)
    assert [message[1] for message in second.take_streams()] == [1]
    assert not server.peer.is_closed
    server.send(server.headers(1, OK))
    await h2c.settle()
    assert status_of(client) == b"200"
    assert server.peer.is_closed


async def test_a_server_that_does_not_read_the_last_frames_of_a_connection_is_cut(h2c):
    client = open_http2(h2c)
    client.send(client.headers(1, GET))
    server = await accept_http2(h2c)
    server.peer.transport.unsent_bytes = 100
    server.send(server.headers(1, OK), goaway(1))
    await h2c.settle()
    assert server.peer.is_closed
    h2c.advance(CLOSE_LIMIT_S - 1)
    assert not server.peer.transport.is_aborted
    h2c.advance(1)
    assert server.peer.transport.is_aborted


@pytest.mark.parametrize("is_idle", [True, False])
async def test_a_server_that_closes_its_side_and_does_not_read_is_cut(h2c, is_idle):
    client = open_http2(h2c)
    client.send(client.headers(1, GET))
    server = await accept_http2(h2c)
    server.peer.transport.unsent_bytes = 100
    if is_idle:
        server.send(server.headers(1, OK))
    server.peer.end()
    await h2c.settle()
    h2c.advance(CLOSE_LIMIT_S - 1)
    assert not server.peer.transport.is_aborted
    h2c.advance(1)
    assert server.peer.transport.is_aborted
    await h2c.settle()
    assert status_of(client) == (b"200" if is_idle else b"502")


# --- peers that do not read


def answer_without_window(client, streams):
    """Render requests whose responses have no body, so that no window bounds them."""
    return [client.headers(stream, HEAD) for stream in streams]


@pytest.mark.parametrize("kind", ["responses", "PING"])
async def test_a_client_that_does_not_read_what_no_window_bounds_is_not_read(open_world, kind):
    async with open_world(settings=CarryingSettings(http2_control_limit=1_000_000)) as world:
        client = open_http2(world)
        client.peer.stop_taking(OUTPUT_LIMIT_BYTES)
        next_stream = 1

        def render():
            nonlocal next_stream
            next_stream += 20
            return (
                answer_without_window(client, range(next_stream - 20, next_stream, 2))
                if kind == "responses"
                else [PINGS]
            )

        client.send(*render())
        assert client.peer.transport.is_reading
        client.peer.transport.unsent_bytes = OUTPUT_LIMIT_BYTES + 1
        client.send(*render())
        assert not client.peer.transport.is_reading
        client.peer.take_again()
        await world.settle()
        assert client.peer.transport.is_reading
        expect_answer(client, 101)


async def test_frames_that_wait_for_their_turn_wait_until_the_client_reads(world):
    client = open_http2(world)
    client.take()
    client.peer.stop_taking(OUTPUT_LIMIT_BYTES + 1)
    client.send(PINGS * 400)
    await world.settle()
    answered = len(client.take())
    assert answered == 256
    assert not client.peer.transport.is_reading
    client.peer.take_again()
    await world.settle()
    assert len(client.take()) == 400 - answered
    assert client.peer.transport.is_reading


async def test_a_client_that_reads_nothing_and_is_not_read_ends_when_it_is_idle(world):
    client = open_http2(world)
    client.peer.stop_taking(OUTPUT_LIMIT_BYTES + 1)
    client.send(PINGS)
    assert not client.peer.transport.is_reading
    world.advance(181)
    await world.settle()
    world.advance(61)
    await world.settle()
    assert client.peer.transport.is_aborted
    assert not world.handler.environment.clients


async def test_a_server_that_does_not_read_gets_no_more_requests(h2c):
    client = open_http2(h2c)
    client.send(client.headers(1, GET))
    server = await accept_http2(h2c)
    server.peer.stop_taking(OUTPUT_LIMIT_BYTES)
    client.send(client.headers(3, GET))
    await h2c.settle()
    assert not h2c.connects
    server.peer.transport.unsent_bytes = OUTPUT_LIMIT_BYTES + 1
    client.send(client.headers(5, GET))
    await accept_http2(h2c)
    server.peer.take_again()
    client.send(client.headers(7, GET))
    await h2c.settle()
    assert not h2c.connects
    assert server.take_streams()[-1][:2] == ("headers", 5)


# --- servers that refuse everything


@pytest.mark.parametrize("opening", [goaway(0), settings(MAX_CONCURRENT_STREAMS=0)], ids=["GOAWAY", "no streams"])
async def test_a_server_that_accepts_nothing_on_a_new_connection_is_not_asked_for_ever(h2c, opening):
    client = open_http2(h2c)
    client.send(client.headers(1, GET), client.headers(3, GET))
    await h2c.settle()
    server = FramePeer(h2c.let_connect())
    server.send(settings(), opening)  # before the mesh has sent a request
    await h2c.settle()
    assert not h2c.connects
    assert [dict(message[2])[b":status"] for message in client.take_streams() if message[0] == "headers"] == [
        b"502"
    ] * 2
    server.peer.lose()
    await h2c.settle()
    assert count_opened(h2c) == [0]
    assert [each.multiplexed for each in h2c.handler._servers.values()] == [[]]


async def test_a_server_that_goes_away_from_each_connection_is_asked_four_times(h2c):
    client = open_http2(h2c)
    client.send(client.headers(1, GET))
    asked = 0
    while not client.take_streams():
        server = await accept_http2(h2c)
        asked += len(server.take_streams())
        server.send(goaway(0))
        await h2c.settle()
    assert asked == 4
    assert count_opened(h2c) == [0]


# --- the numbers of streams


async def test_a_connection_to_a_server_whose_numbers_are_used_up_is_replaced(h2c):
    client = open_http2(h2c)
    client.send(client.headers(1, GET))
    server = await accept_http2(h2c)
    server.peer.protocol._next_id = (1 << 31) - 1
    client.send(client.headers(3, GET))
    await h2c.settle()
    assert [message[1] for message in server.take_streams()] == [1, (1 << 31) - 1]
    client.send(client.headers(5, GET))
    second = await accept_http2(h2c)
    assert [message[1] for message in second.take_streams()] == [1]
    server.send(server.headers((1 << 31) - 1, OK), server.headers(1, OK))
    await h2c.settle()
    assert [message[1] for message in client.take_streams()] == [3, 1]
    assert server.peer.is_closed


async def test_a_client_may_use_the_highest_number(world):
    client = open_http2(world)
    expect_answer(client, (1 << 31) - 1)
    assert not has_ended(client)


# --- the text of an error


async def test_goaway_tells_the_reason_of_an_error(world):
    client = open_http2(world)
    client.take()
    client.send(frame(PING, 0, 1, b"12345678"))
    client.peer.expect(render_goaway(0, PROTOCOL_ERROR, "PING of a stream"))
    assert render_goaway(0, NO_ERROR, "é")[-1:] == b"?"


# --- the end of a connection


async def test_a_client_that_does_not_close_after_its_last_response_is_closed(open_world):
    async with open_world(settings=CarryingSettings(request_limit=1)) as world:
        client = open_http2(world)
        client.send(client.headers(1, ELSEWHERE))
        assert client.peer.transport.has_ended
        assert client.peer.transport.is_reading
        client.take()
        for _ in range(6):
            world.advance(4)
            client.send(PINGS)  # discarded
        assert client.take() == []
        assert not client.peer.is_closed
        client.peer.transport.unsent_bytes = 1
        world.advance(6)
        assert client.peer.is_closed
        assert not client.peer.transport.is_aborted
        world.advance(61)
        assert client.peer.transport.is_aborted


async def test_a_client_that_is_cut_in_the_middle_of_a_turn_is_read_to_its_end(open_world):
    async with open_world(settings=CarryingSettings(http2_control_limit=300)) as world:
        client = open_http2(world)
        client.send(PINGS * 400)
        assert not client.peer.transport.is_reading
        await world.settle()
        assert client.take()[-1][0] == "goaway"
        assert client.peer.transport.is_reading


async def test_an_error_after_the_gentle_end_of_a_connection_writes_nothing_more(open_world):
    async with open_world(scheme="h2c", settings=CarryingSettings(http2_reset_limit=1)) as world:
        client = open_http2(world)
        client.send(client.headers(1, GET), rst_stream(1, CANCEL), client.headers(3, GET))
        world.handler.start_draining()
        await world.settle()
        ping = next(message[1] for message in client.take() if message[0] == "ping")
        client.send(frame(PING, 1, 0, ping))
        await world.settle()
        assert client.take() == [("goaway", 3, NO_ERROR)]
        client.send(rst_stream(3, CANCEL))  # the last stream ends, and one reset too many is counted
        await world.settle()
        assert client.take() == []
        assert has_ended(client)
