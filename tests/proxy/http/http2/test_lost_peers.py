"""Peers that are gone, that do not read, or that refuse everything: what the mesh buffers and tries for them."""

import itertools

import pytest

from maesh_core.proxy.http.http2.connection import CLOSE_LIMIT_S, OUTPUT_LIMIT_BYTES, TURN_FRAMES
from maesh_core.proxy.http.http2.frames import render_goaway
from maesh_core.proxy.http.http2.multiplexed_upstream import RESETS_PER_CONNECTION
from maesh_core.proxy.http.http2.server_silence import (
    PING_PAUSE_S,
    PING_TIMEOUT_S,
    SILENCE_LIMIT_S,
    SILENCE_PING,
    UNREAD_LIMIT_BYTES,
)
from maesh_core.settings import CarryingSettings

from .framing import (
    CANCEL,
    ELSEWHERE,
    GET,
    NO_ERROR,
    PING,
    POST,
    PROTOCOL_ERROR,
    FramePeer,
    accept_http2,
    expect_answer,
    frame,
    goaway,
    has_ended,
    open_http2,
    ping_ack,
    rst_stream,
    settings,
    window_update,
)

OK = ((":status", "200"),)
PINGS = frame(PING, 0, 0, b"12345678")
HEAD = ((":method", "HEAD"), *ELSEWHERE[1:])


def count_opened(world):
    return [server.opened for server in world.handler._servers.values()]


@pytest.fixture
async def h2c(open_world):
    """Give a world whose server speaks HTTP/2."""
    async with open_world(scheme="h2c") as world:
        yield world


# --- servers that are silent


async def cancel_after(world, client, stream, seconds):
    """Send a request, and cancel it when so much time has passed."""
    client.send(client.headers(stream, GET))
    await world.settle()
    world.advance(seconds)
    client.send(rst_stream(stream, CANCEL))
    await world.settle()


async def test_a_server_that_is_silent_for_too_long_gets_no_further_request_on_that_connection(h2c):
    client = open_http2(h2c)
    client.send(client.headers(1, GET))
    server = await accept_http2(h2c)
    await cancel_after(h2c, client, 3, SILENCE_LIMIT_S + 1)
    assert not server.peer.is_closed  # the first request may still be answered
    client.send(client.headers(5, GET))
    second = await accept_http2(h2c)
    assert [message[1] for message in second.take_streams()] == [1]
    server.send(server.headers(1, OK))
    await h2c.settle()
    assert [message[:2] for message in client.take_streams()] == [("headers", 1)]
    h2c.advance(1)
    client.send(client.headers(7, GET))
    await h2c.settle()
    assert [message[:2] for message in server.take_streams()][-1] == ("headers", 5)


async def test_a_server_that_never_answers_is_noticed_by_the_time_out_of_the_first_request(h2c):
    client = open_http2(h2c)
    client.send(client.headers(1, GET))
    server = await accept_http2(h2c)
    server.take()
    h2c.advance(61)
    await h2c.settle()
    assert dict(client.take_streams()[0][2])[b":status"] == b"504"
    assert count_opened(h2c) == [0]
    assert list_pings(server) == [SILENCE_PING]
    h2c.advance(PING_TIMEOUT_S + 1)
    assert server.peer.is_closed


def list_pings(server):
    """Take what has come, and list the payloads of PING."""
    return [message[1] for message in server.take() if message[0] == "ping"]


def status_of(client):
    """Give the status of the only response that has come."""
    (head, *_) = client.take_streams()
    return dict(head[2])[b":status"]


async def test_a_connection_whose_server_is_gone_is_given_up_and_its_request_sent_over_another_one(h2c):
    client = open_http2(h2c)
    client.send(client.headers(1, GET))
    server = await accept_http2(h2c)
    server.send(server.headers(1, OK))
    client.send(client.headers(3, GET), client.headers(5, POST))
    await h2c.settle()
    client.take()
    server.take()
    h2c.advance(SILENCE_LIMIT_S - 1)
    await h2c.settle()
    assert list_pings(server) == []
    h2c.advance(1)
    await h2c.settle()
    assert list_pings(server) == [SILENCE_PING]
    h2c.advance(PING_TIMEOUT_S - 1)
    await h2c.settle()
    assert not server.peer.is_closed
    server.peer.transport.unsent_bytes = 100  # a close would wait for these bytes
    h2c.advance(1)
    await h2c.settle()
    assert server.peer.transport.is_aborted
    assert status_of(client) == b"502"  # a POST is not sent twice
    second = await accept_http2(h2c)
    second.send(second.headers(1, OK))
    await h2c.settle()
    assert status_of(client) == b"200"


@pytest.mark.parametrize("sign", ["an answer to PING", "a response", "other frames"])
async def test_a_server_that_sends_anything_after_a_ping_is_kept(h2c, sign):
    client = open_http2(h2c)
    client.send(client.headers(1, GET), client.headers(3, GET))
    server = await accept_http2(h2c)
    h2c.advance(SILENCE_LIMIT_S)
    await h2c.settle()
    signs = {"an answer to PING": ping_ack(SILENCE_PING), "other frames": settings()}
    server.send(signs.get(sign) or server.headers(3, OK))
    client.send(client.headers(5, GET))
    await h2c.settle()
    assert not h2c.connects
    h2c.advance(PING_TIMEOUT_S)
    assert not server.peer.is_closed


async def test_while_a_ping_is_unanswered_requests_get_another_connection(h2c):
    client = open_http2(h2c)
    client.send(client.headers(1, GET))
    server = await accept_http2(h2c)
    h2c.advance(SILENCE_LIMIT_S)
    client.send(client.headers(3, GET))
    second = await accept_http2(h2c)
    assert [message[1] for message in second.take_streams()] == [1]
    server.send(ping_ack(SILENCE_PING))
    client.send(client.headers(5, GET))
    await h2c.settle()
    assert [message[1] for message in server.take_streams()] == [1, 3]


async def test_an_idle_connection_gets_no_ping(h2c):
    client = open_http2(h2c)
    client.send(client.headers(1, GET))
    server = await accept_http2(h2c)
    server.send(server.headers(1, OK))
    h2c.advance(SILENCE_LIMIT_S + 1)
    await h2c.settle()
    assert list_pings(server) == []


@pytest.mark.parametrize("end", ["a cancel", "many frames"])
async def test_the_time_without_a_request_is_no_silence(h2c, end):
    client = open_http2(h2c)
    client.send(client.headers(1, GET))
    server = await accept_http2(h2c)
    if end == "a cancel":
        client.send(rst_stream(1, CANCEL))
    else:  # the response ends in a later turn
        data = server.data(1, b"x") * TURN_FRAMES + server.data(1, is_end=True)
        server.send(server.headers(1, OK, is_end=False), data)
    await h2c.settle()
    h2c.advance(SILENCE_LIMIT_S + 1)
    client.send(client.headers(3, GET))
    h2c.advance(SILENCE_LIMIT_S - 1)
    await h2c.settle()
    assert list_pings(server) == []
    h2c.advance(1)
    await h2c.settle()
    assert list_pings(server) == [SILENCE_PING]


async def test_a_server_that_does_not_read_gets_no_ping(h2c):
    client = open_http2(h2c)
    client.send(client.headers(1, GET))
    server = await accept_http2(h2c)
    server.peer.stop_taking()
    h2c.advance(SILENCE_LIMIT_S + 1)
    await h2c.settle()
    assert list_pings(server) == []
    server.peer.take_again()


@pytest.mark.parametrize("is_answering", [False, True])
async def test_streams_that_stay_silent_get_few_pings(open_world, is_answering):
    async with open_world(scheme="h2c", settings=CarryingSettings(response_timeout=10_000)) as world:
        client = open_http2(world)
        client.send(client.headers(1, GET))
        server = await accept_http2(world)
        pings = []
        for stream in range(3, 243, 2):
            client.send(client.headers(stream, GET))
            world.advance(SILENCE_LIMIT_S)
            await world.settle()
            if SILENCE_PING in list_pings(server):
                pings.append(world.now)
                server.send(ping_ack(SILENCE_PING))
                if is_answering:
                    server.send(server.headers(stream - 2, OK))
        gaps = [later - earlier for earlier, later in itertools.pairwise(pings)]
        if is_answering:
            assert set(gaps) == {SILENCE_LIMIT_S}
        else:
            assert gaps[0] == SILENCE_LIMIT_S  # the spare one
            assert len(gaps) == 2
            assert gaps[1] >= PING_PAUSE_S


async def test_a_cancelled_request_ends_the_use_of_a_silent_connection_that_gets_no_ping(h2c):
    client = open_http2(h2c)
    client.send(client.headers(1, GET), client.headers(3, GET))
    server = await accept_http2(h2c)
    h2c.advance(SILENCE_LIMIT_S)
    server.send(ping_ack(SILENCE_PING))
    h2c.advance(SILENCE_LIMIT_S)
    client.send(rst_stream(3, CANCEL), client.headers(5, GET))
    await accept_http2(h2c)
    assert len(list_pings(server)) == 1
    assert not server.peer.is_closed


async def test_cancels_that_leave_no_request_do_not_hide_the_silence(h2c):
    client = open_http2(h2c)
    client.send(client.headers(1, GET))
    server = await accept_http2(h2c)
    for stream in range(3, 11, 2):
        client.send(rst_stream(stream - 2, CANCEL), client.headers(stream, GET))
        h2c.advance(1.5)
        await h2c.settle()
    assert list_pings(server) == [SILENCE_PING]


async def test_a_server_that_may_still_be_reading_a_request_gets_no_ping(h2c):
    client = open_http2(h2c)
    client.send(client.headers(1, POST, is_end=False))
    server = await accept_http2(h2c, INITIAL_WINDOW_SIZE=1 << 30)
    server.send(window_update(0, 1 << 30))
    for _ in range(UNREAD_LIMIT_BYTES // 16384):
        client.send(client.data(1, b"x" * 16384))
        await h2c.settle()
    client.send(client.data(1, b"x"))
    await h2c.settle()
    h2c.advance(SILENCE_LIMIT_S + 1)
    await h2c.settle()
    assert list_pings(server) == []
    server.send(window_update(0, 1))
    h2c.advance(SILENCE_LIMIT_S)
    await h2c.settle()
    assert list_pings(server) == [SILENCE_PING]


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


@pytest.mark.parametrize("sign", ["a response", "a PING", "little time"])
async def test_a_server_that_lives_keeps_its_connection(h2c, sign):
    client = open_http2(h2c)
    client.send(client.headers(1, GET), client.headers(3, GET))
    server = await accept_http2(h2c)
    h2c.advance(SILENCE_LIMIT_S - 1)
    if sign == "a response":
        server.send(server.headers(3, OK))
    elif sign == "a PING":
        server.send(PINGS)
    await cancel_after(h2c, client, 5, 0 if sign == "little time" else SILENCE_LIMIT_S - 1)
    client.send(client.headers(7, GET))
    await h2c.settle()
    assert not h2c.connects
    assert server.take_streams()[-1][1] == 7


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
