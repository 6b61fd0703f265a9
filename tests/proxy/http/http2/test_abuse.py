"""Clients that cost the mesh work and are of no use: what ends their connections, and what they cannot do to others."""

import pytest

from maesh_core.proxy.http.http2.connection import TURN_FRAMES
from maesh_core.settings import CarryingSettings

from .framing import (
    CANCEL,
    CONTINUATION,
    DATA,
    END_HEADERS,
    ENHANCE_YOUR_CALM,
    GET,
    HEADERS,
    NO_ERROR,
    PING,
    POST,
    PREFACE,
    PRIORITY,
    FramePeer,
    accept_http2,
    frame,
    open_http2,
    rst_stream,
    settings,
    window_update,
)

STREAM_WINDOW = 131072


def find_goaway(client):
    """Return the code of the GOAWAY that has come, None if none has."""
    return next((message[2] for message in client.take() if message[0] == "goaway"), None)


async def send_until_closed(world, client, frames):
    """Send frames one after the other until the connection is closed; give how many were sent."""
    for sent, each in enumerate(frames):
        if client.peer.is_closed or client.peer.transport.has_ended:
            return sent
        client.peer.protocol.data_received(each)
        await world.settle()
    return len(frames)


# --- resets


async def test_rapid_resets_end_the_connection_and_leave_nothing_behind(open_world):
    async with open_world(scheme="h2c", settings=CarryingSettings(http2_reset_limit=50)) as world:
        client = open_http2(world)
        frames = [client.headers(2 * each + 1, GET) + rst_stream(2 * each + 1, CANCEL) for each in range(300)]
        sent = await send_until_closed(world, client, frames)
        assert sent == 51
        assert find_goaway(client) == ENHANCE_YOUR_CALM


async def test_streams_that_the_mesh_has_to_reset_count_too(open_world):
    async with open_world(settings=CarryingSettings(http2_reset_limit=50)) as world:
        client = open_http2(world)
        bad = (*GET, ("Upper", "case"))
        sent = await send_until_closed(world, client, [client.headers(2 * each + 1, bad) for each in range(300)])
        assert sent == 51
        assert find_goaway(client) == ENHANCE_YOUR_CALM


async def test_a_client_that_cancels_now_and_then_is_not_cut(open_world):
    async with open_world(scheme="h2c", settings=CarryingSettings(http2_reset_limit=5)) as world:
        client = open_http2(world)
        client.send(client.headers(1, GET))
        server = await accept_http2(world)
        for each in range(3, 203, 4):
            client.send(client.headers(each, GET), rst_stream(each, CANCEL), client.headers(each + 2, GET))
            await world.settle()
            asked = [message[1] for message in server.take_streams() if message[0] == "headers"]
            server.send(server.headers(asked[-1], ((":status", "200"),)))
            await world.settle()
        assert find_goaway(client) is None


# --- frames of no use


@pytest.mark.parametrize(
    "flood",
    [
        frame(PING, 0, 0, b"12345678"),
        settings(),
        frame(PRIORITY, 0, 1, b"\0\0\0\3\x10"),
        frame(200, 0, 0, b""),
        window_update(0, 1),
        frame(DATA, 0, 1, b""),
        frame(DATA, 8, 1, b"\x05\0\0\0\0\0"),
    ],
    ids=["PING", "SETTINGS", "PRIORITY", "unknown", "WINDOW_UPDATE", "empty DATA", "padding"],
)
async def test_a_flood_of_frames_of_no_use_ends_the_connection(open_world, flood):
    async with open_world(settings=CarryingSettings(http2_control_limit=100)) as world:
        client = open_http2(world)
        client.send(client.headers(1, POST, is_end=False))
        sent = await send_until_closed(world, client, [flood] * 300)
        assert 95 <= sent <= 110
        assert find_goaway(client) == ENHANCE_YOUR_CALM


async def test_time_and_answered_requests_allow_more_control_frames(open_world):
    async with open_world(settings=CarryingSettings(http2_control_limit=100)) as world:
        client = open_http2(world)
        for _ in range(20):
            client.send(frame(PING, 0, 0, b"12345678") * 40)
            world.advance(1)
            await world.settle()
        assert find_goaway(client) is None


async def test_a_header_block_without_end_is_cut_at_the_limit_of_heads(open_world):
    async with open_world(settings=CarryingSettings(head_limit=4096)) as world:
        client = open_http2(world)
        client.send(frame(HEADERS, 0, 1, b"\x82"))
        sent = await send_until_closed(world, client, [frame(CONTINUATION, 0, 1, b"\0\1a\1b" * 100)] * 50)
        assert sent <= 10
        assert find_goaway(client) == ENHANCE_YOUR_CALM


async def test_empty_continuations_are_cut_by_the_budget(open_world):
    async with open_world(settings=CarryingSettings(http2_control_limit=100)) as world:
        client = open_http2(world)
        client.send(frame(HEADERS, 0, 1, b"\x82"))
        sent = await send_until_closed(world, client, [frame(CONTINUATION, 0, 1)] * 300)
        assert sent <= 101
        assert find_goaway(client) == ENHANCE_YOUR_CALM


async def test_requests_after_the_announced_end_are_cut_by_the_budget(open_world):
    async with open_world(settings=CarryingSettings(request_limit=1, http2_control_limit=100)) as world:
        client = open_http2(world)
        client.send(client.headers(1, GET))
        await world.accept()
        frames = [client.headers(stream, GET) for stream in range(3, 603, 2)]
        assert await send_until_closed(world, client, frames) <= 101
        assert find_goaway(client) is not None


@pytest.mark.parametrize("is_end", [False, True])
@pytest.mark.parametrize("is_above", [False, True])
async def test_empty_data_of_an_ignored_stream_is_cut_by_the_budget(open_world, is_above, is_end):
    limits = CarryingSettings(http2_control_limit=100, request_limit=1 if is_above else 0)
    async with open_world(settings=limits) as world:
        client = open_http2(world)
        client.send(client.headers(1, GET))  # above the last stream of a GOAWAY, or reset because it is malformed
        client.send(client.headers(3, POST if is_above else (*POST, ("Upper", "case")), is_end=False))
        await world.accept()
        client.take()
        assert await send_until_closed(world, client, [client.data(3, is_end=is_end)] * 300) <= 101
        assert find_goaway(client) == ENHANCE_YOUR_CALM


async def test_header_lists_of_a_reset_stream_are_cut_by_the_budget(open_world):
    async with open_world(settings=CarryingSettings(http2_control_limit=100)) as world:
        client = open_http2(world)
        client.send(client.headers(1, (*GET, ("Upper", "case")), is_end=False))
        sent = await send_until_closed(world, client, [client.headers(1, GET)] * 300)
        assert sent <= 101
        assert find_goaway(client) == ENHANCE_YOUR_CALM


async def test_a_header_block_that_is_not_finished_in_time_is_cut(world):
    client = open_http2(world)
    client.send(client.headers(1, (*GET[:2], (":authority", "other"), GET[3])))
    client.take()
    client.send(frame(HEADERS, 0, 3, b"\x82"))
    world.advance(9)
    assert find_goaway(client) is None
    world.advance(2)
    assert find_goaway(client) == ENHANCE_YOUR_CALM


async def test_a_client_that_sends_nothing_but_the_preface_is_cut_in_the_time_of_a_head(world):
    client = FramePeer(world.open_client())
    client.send(PREFACE)
    world.advance(11)
    assert find_goaway(client) == NO_ERROR
    assert client.peer.is_closed


# --- header lists


@pytest.mark.parametrize(
    "fields",
    [
        tuple((f"x-{number}", "1") for number in range(150)),
        (("x-large", "v" * 5000),),
        tuple(("x-repeated", "v" * 200) for _ in range(30)),
    ],
    ids=["many", "large", "compressed"],
)
async def test_a_header_list_above_the_limit_is_431_on_its_stream_and_the_connection_goes_on(open_world, fields):
    async with open_world(settings=CarryingSettings(head_limit=4096, field_limit=100)) as world:
        client = open_http2(world)
        client.send(client.headers(1, (*GET, *fields)))
        messages = client.take_streams()
        assert dict(messages[0][2])[b":status"] == b"431"
        client.send(client.headers(3, (*GET[:2], (":authority", "other"), GET[3])))
        messages = client.take_streams()
        assert dict(messages[0][2])[b":status"] == b"404"


async def test_a_compressed_block_that_expands_without_end_costs_no_memory(open_world):
    async with open_world(settings=CarryingSettings(head_limit=4096)) as world:
        client = open_http2(world)
        block = client.encoder.encode((*GET, ("x-bomb", "v" * 3000)))
        client.send(frame(HEADERS, END_HEADERS | 1, 1, block + b"\xbe" * 1000))  # 3 MB by reference to the table
        messages = client.take_streams()
        assert dict(messages[0][2])[b":status"] == b"431"
        assert not client.peer.is_closed


# --- turns


async def test_one_read_of_many_frames_is_processed_in_several_turns(open_world):
    async with open_world(settings=CarryingSettings(http2_control_limit=10_000)) as world:
        client = open_http2(world)
        client.take()
        client.send(frame(PING, 0, 0, b"12345678") * (TURN_FRAMES + 50))
        assert len(client.take()) == TURN_FRAMES
        assert not client.peer.transport.is_reading
        await world.settle()
        assert len(client.take()) == 50
        assert client.peer.transport.is_reading


async def test_requests_cost_more_of_a_turn_than_other_frames(world):
    client = open_http2(world)
    unknown = (*GET[:2], (":authority", "other"), GET[3])
    client.send(b"".join(client.headers(2 * each + 1, unknown) for each in range(60)))
    assert len([message for message in client.take() if message[0] == "headers"]) == TURN_FRAMES // 8
    await world.settle()
    assert len([message for message in client.take() if message[0] == "headers"]) == 60 - TURN_FRAMES // 8


async def test_streams_above_the_limit_are_refused(open_world):
    async with open_world(settings=CarryingSettings(http2_stream_limit=2)) as world:
        client = open_http2(world)
        assert ("settings", {3: 2, 4: STREAM_WINDOW, 6: 65536}) in client.take()
        client.send(*(client.headers(each, GET) for each in (1, 3, 5)))
        assert client.take_streams() == [("reset", 5, 7)]
        client.send(rst_stream(1, CANCEL), client.headers(7, GET))
        await world.settle()
        assert client.take_streams() == []
