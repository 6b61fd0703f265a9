"""Servers that owe responses and send nothing: when they get PING, and when their connection is given up."""

import itertools

import pytest

from maesh_core.proxy.http.http2.connection import TURN_FRAMES
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
    GET,
    PINGS,
    POST,
    accept_http2,
    count_opened,
    open_http2,
    ping_ack,
    rst_stream,
    settings,
    status_of,
    window_update,
)

OK = ((":status", "200"),)


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
