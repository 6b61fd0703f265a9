"""Connections that start slowly or oddly, and that drip-feed their frames; and settings that change in the middle."""

import pytest

from maesh_core.proxy.http.http2.connection import OUTPUT_LIMIT_BYTES, SETTINGS_ACK_LIMIT_S
from maesh_core.settings import CarryingSettings

from .framing import (
    ELSEWHERE,
    ENHANCE_YOUR_CALM,
    GET,
    HEADERS,
    NO_ERROR,
    POST,
    PREFACE,
    SETTINGS_ACK,
    SETTINGS_TIMEOUT,
    FramePeer,
    accept_http2,
    expect_answer,
    expect_goaway,
    frame,
    has_ended,
    list_errors,
    open_http2,
    settings,
)

OK = ((":status", "200"),)


async def test_a_preface_that_arrives_byte_by_byte_must_be_complete_within_the_time_of_a_head(world):
    client = FramePeer(world.open_client())
    for at in range(len(PREFACE)):
        if has_ended(client):
            break
        client.send(PREFACE[at : at + 1])
        world.advance(1)
        await world.settle()
    assert at < 12
    assert has_ended(client)


@pytest.mark.parametrize("size", [18, 20, 24])
async def test_a_client_that_stops_behind_a_part_of_its_start_is_cut(world, size):
    client = FramePeer(world.open_client())
    client.send((PREFACE + settings())[:size])
    world.advance(9)
    assert not has_ended(client)
    world.advance(2)
    assert has_ended(client)


async def test_many_requests_may_follow_the_preface_at_once(world):
    client = FramePeer(world.open_client())
    elsewhere = (*GET[:2], (":authority", "other"), GET[3])
    client.send(PREFACE, settings(), *(client.headers(stream, elsewhere) for stream in range(1, 201, 2)))
    await world.settle()
    answered = [message[1] for message in client.take() if message[0] == "headers"]
    assert answered == list(range(1, 201, 2))


async def test_an_offered_upgrade_to_h2c_is_answered_as_http1(world):
    client = world.open_client()
    client.send(
        b"GET / HTTP/1.1\r\nHost: a.test.maesh\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABk\r\n\r\n"
    )
    server = await world.accept()
    assert b"upgrade" not in server.take().lower()
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    await world.settle()
    assert client.take().startswith(b"HTTP/1.1 200 OK\r\n")
    assert not client.is_closed


async def test_frames_that_come_byte_by_byte_are_processed(world):
    client = open_http2(world)
    client.take()
    elsewhere = (*GET[:2], (":authority", "other"), GET[3])
    rendered = client.headers(1, elsewhere) + frame(99, 0, 0, b"abc") + client.headers(3, elsewhere)
    for at in range(len(rendered)):
        client.send(rendered[at : at + 1])
    assert [message[1] for message in client.take() if message[0] == "headers"] == [1, 3]


def send_drops(world, client, rendered, seconds):
    """Send a frame byte by byte, one in so many seconds, until the connection ends; give how many seconds passed."""
    for at in range(len(rendered)):
        if has_ended(client):
            break
        client.send(rendered[at : at + 1])
        world.advance(seconds)
    return at * seconds


@pytest.mark.parametrize("is_busy", [False, True])
@pytest.mark.parametrize("is_block", [False, True])
async def test_a_frame_that_comes_drop_by_drop_ends_the_connection(world, is_busy, is_block):
    client = open_http2(world)
    if is_busy:
        client.send(client.headers(1, GET))
        await world.accept()
    client.take()
    if is_block:
        client.send(frame(HEADERS, 0, 3, b"\x82"))
    lasted = send_drops(world, client, client.headers(3, (*GET, ("a", "b" * 50))), 1)
    assert 10 <= lasted <= 21  # for the header of the frame, and for its payload
    expect_goaway(client, ENHANCE_YOUR_CALM)


async def test_the_header_of_a_data_frame_has_the_time_of_a_head(world):
    client = open_http2(world)
    client.send(client.headers(1, POST, is_end=False))
    await world.accept()
    client.take()
    client.send(client.data(1, b"x")[:5])
    world.advance(11)
    expect_goaway(client, ENHANCE_YOUR_CALM)


async def test_data_that_comes_drop_by_drop_has_the_time_of_a_body(world):
    client = open_http2(world)
    client.send(client.headers(1, POST, is_end=False))
    server = await world.accept()
    client.take()
    world.advance(50)
    rendered = client.data(1, b"x" * 100)
    client.send(client.data(1, b"x"), rendered[:9])
    lasted = send_drops(world, client, rendered[9:], 5)
    assert lasted == 60
    assert list_errors(client)[-1] == ("goaway", ENHANCE_YOUR_CALM)
    await world.settle()
    assert server.is_closed


async def test_a_connection_is_idle_from_its_last_response_also_after_a_frame_in_pieces(world):
    client = open_http2(world)
    client.take()
    rendered = frame(99, 0, 0, b"abc")
    client.send(rendered[:5])
    world.advance(1)
    client.send(rendered[5:])
    world.advance(88)
    assert not has_ended(client)
    world.advance(2)
    expect_goaway(client, NO_ERROR)


async def test_a_rest_that_waits_until_the_client_reads_is_not_late(world):
    client = open_http2(world)
    rendered = client.headers(1, ELSEWHERE)
    client.peer.stop_taking(OUTPUT_LIMIT_BYTES + 1)
    client.send(rendered[:5])
    assert not client.peer.transport.is_reading
    world.advance(15)
    assert not has_ended(client)
    client.peer.take_again()
    await world.settle()
    client.send(rendered[5:])
    await world.settle()
    world.advance(15)
    expect_answer(client, 3)


# --- settings that are not acknowledged


@pytest.mark.parametrize("is_busy", [False, True])
async def test_a_client_that_does_not_acknowledge_settings_is_cut(world, is_busy):
    client = FramePeer(world.open_client())
    client.send(PREFACE, settings())
    for stream in range(1, 2 * int(SETTINGS_ACK_LIMIT_S), 2):
        assert not has_ended(client)
        if is_busy:
            expect_answer(client, stream)
        client.take()
        world.advance(1)
    expect_goaway(client, SETTINGS_TIMEOUT)


async def test_settings_must_be_acknowledged_during_a_long_response(open_world):
    async with open_world(scheme="h2c") as world:
        client = FramePeer(world.open_client())
        client.send(PREFACE, settings(), client.headers(1, GET))
        server = await accept_http2(world)
        server.send(server.headers(1, OK, is_end=False))
        for _ in range(int(SETTINGS_ACK_LIMIT_S)):
            assert not has_ended(client)
            server.send(server.data(1, b"x"))
            world.advance(1)
            await world.settle()
        expect_goaway(client, SETTINGS_TIMEOUT)


async def test_a_client_that_acknowledges_late_is_served(world):
    client = FramePeer(world.open_client())
    client.send(PREFACE, settings())
    world.advance(SETTINGS_ACK_LIMIT_S - 1)
    client.send(SETTINGS_ACK)
    world.advance(SETTINGS_ACK_LIMIT_S)
    expect_answer(client, 1)
    world.advance(89)
    assert not has_ended(client)


async def test_a_server_that_does_not_acknowledge_settings_is_left(open_world):
    async with open_world(scheme="h2c") as world:
        client = open_http2(world)
        client.send(client.headers(1, GET))
        server = FramePeer(await world.accept())
        for _ in range(int(SETTINGS_ACK_LIMIT_S)):
            assert not has_ended(server)
            server.send(settings())  # it lives
            server.take()
            world.advance(1)
        expect_goaway(server, SETTINGS_TIMEOUT)
        await world.settle()
        assert dict(client.take_streams()[0][2])[b":status"] == b"502"


async def test_a_server_that_sends_its_response_drop_by_drop_is_left(open_world):
    async with open_world(scheme="h2c") as world:
        client = open_http2(world)
        client.send(client.headers(1, GET))
        server = await accept_http2(world)
        server.take()
        lasted = send_drops(world, server, server.headers(1, (*OK, ("a", "b" * 50))), 1)
        assert 10 <= lasted <= 21
        expect_goaway(server, ENHANCE_YOUR_CALM)


@pytest.mark.parametrize("is_busy", [False, True])
async def test_a_frame_that_is_complete_in_time_ends_the_wait(world, is_busy):
    client = open_http2(world)
    if is_busy:
        client.send(client.headers(1, GET))
        await world.accept()
    rendered = frame(99, 0, 0, b"abc")
    for _ in range(10):
        client.send(rendered[:5])
        world.advance(4)
        client.send(rendered[5:])
        world.advance(1)
    expect_answer(client, 3)


async def test_a_block_of_continuation_frames_that_come_in_time_is_cut_all_the_same(world):
    client = open_http2(world)
    client.take()
    client.send(frame(HEADERS, 0, 1, b"\x82"))
    for _ in range(4):
        world.advance(2)
        client.send(frame(9, 0, 1, b"\x84"))
    assert not has_ended(client)
    world.advance(3)
    expect_goaway(client, ENHANCE_YOUR_CALM)


# --- limits of a server that change


async def test_a_server_that_lowers_its_limit_below_the_open_streams_gets_no_more_until_enough_have_ended(open_world):
    async with open_world(scheme="h2c") as world:
        client = open_http2(world)
        client.send(*(client.headers(stream, GET) for stream in (1, 3, 5)))
        first = await accept_http2(world)
        first.send(settings(MAX_CONCURRENT_STREAMS=2))
        first.take()
        client.send(client.headers(7, GET))
        second = await accept_http2(world)
        assert len(second.take_streams()) == 1
        first.send(first.headers(1, OK))
        await world.settle()
        second.send(settings(MAX_CONCURRENT_STREAMS=1))
        client.send(client.headers(9, GET))
        await accept_http2(world)  # two streams are still open on the first connection
        first.send(first.headers(3, OK))
        await world.settle()
        client.send(client.headers(11, GET))
        await world.settle()
        assert [message[:2] for message in first.take_streams()] == [("headers", 7)]


async def test_many_idle_streams_of_a_connection_end_with_it(open_world):
    async with open_world(scheme="h2c", settings=CarryingSettings(http2_stream_limit=1000)) as world:
        client = open_http2(world)
        client.send(*(client.headers(stream, GET, is_end=False) for stream in range(1, 2001, 2)))
        for _ in range(10):
            await accept_http2(world)
        assert len(client.peer.protocol.streams) == 1000
        assert [server.opened for server in world.handler._servers.values()] == [1000]
        client.peer.lose()
        await world.settle()
        assert [server.opened for server in world.handler._servers.values()] == [0]
