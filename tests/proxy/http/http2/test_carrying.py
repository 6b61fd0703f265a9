"""Exchanges between clients and servers of HTTP/2. Those with HTTP/1.1 on one side are in test_translation.py."""

import pytest
from hpack import HeaderTuple, NeverIndexedHeaderTuple

from maesh_core.proxy.http.http2.server_silence import SILENCE_PING
from maesh_core.settings import CarryingSettings

from .framing import (
    CANCEL,
    ENHANCE_YOUR_CALM,
    GET,
    HOST,
    INTERNAL_ERROR,
    NO_ERROR,
    OK,
    POST,
    REFUSED_STREAM,
    accept_http2,
    goaway,
    open_http2,
    ping_ack,
    read_headers,
    rst_stream,
)

# --- streams


async def test_a_request_and_its_response_pass_from_http2_to_http2(open_h2c):
    async with open_h2c() as world:
        client = open_http2(world)
        client.send(client.headers(1, (*GET, ("x-a", "1"))))
        server = await accept_http2(world)
        (_, stream, fields, is_end), *rest = server.take_streams()
        assert (stream, is_end, rest) == (1, True, [])
        assert fields[:3] == [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", HOST.encode())]
        assert dict(fields)[b":path"] == b"/"
        assert dict(fields)[b"x-a"] == b"1"
        assert dict(fields)[b"x-forwarded-for"] == b"10.0.0.9"
        server.send(server.headers(1, (*OK, ("x-b", "2")), is_end=False), server.data(1, b"hello", is_end=True))
        await world.settle()
        assert client.take_streams() == [
            ("headers", 1, [(b":status", b"200"), (b"x-b", b"2")], False),
            ("data", 1, b"hello", True),
        ]


async def test_bodies_and_trailers_pass_both_ways(open_h2c):
    async with open_h2c() as world:
        client = open_http2(world)
        client.send(client.headers(1, (*POST, ("te", "trailers")), is_end=False), client.data(1, b"ask"))
        server = await accept_http2(world)
        (_, _, fields, is_end), *rest = server.take_streams()
        assert dict(fields)[b"te"] == b"trailers"
        assert not is_end
        assert rest == [("data", 1, b"ask", False)]
        client.send(client.data(1, b"more"), client.headers(1, (("x-sum", "7"),)))
        await world.settle()
        assert server.take_streams() == [
            ("data", 1, b"more", False),
            ("headers", 1, [(b"x-sum", b"7")], True),
        ]
        server.send(
            server.headers(1, (*OK, ("content-type", "application/grpc")), is_end=False),
            server.data(1, b"answer"),
            server.headers(1, (("grpc-status", "0"),)),
        )
        await world.settle()
        assert client.take_streams() == [
            ("headers", 1, [(b":status", b"200"), (b"content-type", b"application/grpc")], False),
            ("data", 1, b"answer", False),
            ("headers", 1, [(b"grpc-status", b"0")], True),
        ]


async def test_streams_of_one_client_are_exchanges_of_their_own(open_h2c):
    async with open_h2c(servers=2) as world:
        client = open_http2(world)
        client.send(client.headers(1, GET), client.headers(3, GET))
        first, second = await accept_http2(world), await accept_http2(world)
        second.send(second.headers(1, OK))
        await world.settle()
        assert client.take_streams() == [("headers", 3, [(b":status", b"200"), (b"content-length", b"0")], True)]
        first.send(first.headers(1, OK))
        await world.settle()
        assert client.take_streams() == [("headers", 1, [(b":status", b"200"), (b"content-length", b"0")], True)]


async def test_many_requests_share_one_connection_to_a_server_also_those_that_wait_for_it(open_h2c):
    async with open_h2c() as world:
        client = open_http2(world)
        client.send(*(client.headers(stream, GET) for stream in (1, 3, 5)))
        server = await accept_http2(world)
        assert [message[1] for message in server.take_streams()] == [1, 3, 5]
        client.send(client.headers(7, GET))
        await world.settle()
        assert [message[1] for message in server.take_streams()] == [7]
        assert not world.connects
        assert [each.under_way for each in world.handler._servers.values()] == [4]
        client.peer.lose()
        await world.settle()
        assert server.take_streams() == [("reset", stream, CANCEL) for stream in (1, 3, 5, 7)]
        assert [each.under_way for each in world.handler._servers.values()] == [0]


async def test_a_server_that_allows_fewer_streams_gets_more_connections(open_h2c):
    async with open_h2c() as world:
        client = open_http2(world)
        client.send(client.headers(1, GET))
        first = await accept_http2(world, MAX_CONCURRENT_STREAMS=1)
        client.send(client.headers(3, GET))
        second = await accept_http2(world, MAX_CONCURRENT_STREAMS=1)
        assert [message[1] for message in second.take_streams()] == [1]
        assert [message[1] for message in first.take_streams()] == [1]


@pytest.mark.parametrize("ends", ["client", "server"])
async def test_a_reset_ends_only_its_own_stream(open_h2c, ends):
    async with open_h2c() as world:
        client = open_http2(world)
        client.send(client.headers(1, GET), client.headers(3, GET))
        server = await accept_http2(world)
        server.take()
        server.send(server.headers(1, OK, is_end=False))
        if ends == "client":
            client.send(rst_stream(1, ENHANCE_YOUR_CALM))
            await world.settle()
            assert server.take_streams() == [("reset", 1, ENHANCE_YOUR_CALM)]
        else:
            server.send(rst_stream(1, INTERNAL_ERROR))
            await world.settle()
            assert client.take_streams()[1:] == [("reset", 1, INTERNAL_ERROR)]
        client.take()
        server.send(server.headers(3, OK))
        await world.settle()
        assert read_headers(client.take_streams())[1]


async def test_a_response_before_the_end_of_the_request_ends_the_stream_without_an_error(open_h2c):
    async with open_h2c() as world:
        client = open_http2(world)
        client.send(client.headers(1, POST, is_end=False), client.data(1, b"part"))
        server = await accept_http2(world)
        server.take()
        server.send(server.headers(1, ((":status", "413"),)))
        await world.settle()
        assert server.take_streams() == [("reset", 1, CANCEL)]
        head, reset = client.take_streams()
        assert head[2][0] == (b":status", b"413")
        assert reset == ("reset", 1, NO_ERROR)
        client.send(client.data(1, b"still under way", is_end=True))
        assert client.take() == []


# --- refused streams and GOAWAY


@pytest.mark.parametrize("refuses", ["stream", "connection"])
async def test_a_request_that_the_server_has_not_processed_is_sent_again_with_its_body(open_h2c, refuses):
    async with open_h2c() as world:
        client = open_http2(world)
        client.send(client.headers(1, POST, is_end=False), client.data(1, b"once", is_end=True))
        server = await accept_http2(world)
        server.take()
        if refuses == "stream":
            server.send(rst_stream(1, REFUSED_STREAM))
            second, stream = server, 3
        else:
            server.send(goaway(0))
            second, stream = await accept_http2(world), 1
        await world.settle()
        (_, number, fields, _), body = second.take_streams()
        assert number == stream
        assert dict(fields)[b":method"] == b"POST"
        assert body == ("data", stream, b"once", True)
        second.send(second.headers(stream, OK))
        await world.settle()
        assert read_headers(client.take_streams())[0][b":status"] == b"200"


async def test_a_server_that_refuses_every_time_is_asked_four_times(open_h2c):
    async with open_h2c() as world:
        client = open_http2(world)
        client.send(client.headers(1, GET))
        server = await accept_http2(world)
        asked = []
        while streams := [message[1] for message in server.take_streams() if message[0] == "headers"]:
            asked += streams
            server.send(rst_stream(streams[0], REFUSED_STREAM))
            await world.settle()
        assert asked == [1, 3, 5, 7]
        assert client.take_streams()[0][2][0] == (b":status", b"502")


async def test_streams_below_the_last_one_of_a_goaway_are_answered_and_the_connection_then_closes(open_h2c):
    async with open_h2c() as world:
        client = open_http2(world)
        client.send(client.headers(1, GET))
        server = await accept_http2(world)
        server.take()
        server.send(goaway(1))
        await world.settle()
        client.send(client.headers(3, GET))
        second = await accept_http2(world)
        assert [message[1] for message in second.take_streams()] == [1]
        server.send(server.headers(1, OK))
        await world.settle()
        assert read_headers(client.take_streams())[0][b":status"] == b"200"
        assert server.peer.is_closed


# --- fields that must not be compressed


@pytest.mark.parametrize("scheme", ["h2c", "http"])
async def test_a_field_that_is_never_indexed_stays_so_on_the_next_hop(open_world, scheme):
    async with open_world(scheme=scheme) as world:
        client = open_http2(world)
        secret = NeverIndexedHeaderTuple("x-secret", "k")
        client.send(client.headers(1, (*GET, secret)), client.headers(3, (*GET, ("x-secret", "k"))))
        if scheme == "http":
            assert b"x-secret: k\r\n" in (await world.accept()).take()
            return
        server = await accept_http2(world)
        first, second = [message[2] for message in server.take_streams()]
        assert [type(field) for field in first if field[0] == b"x-secret"] == [NeverIndexedHeaderTuple]
        assert [type(field) for field in second if field[0] == b"x-secret"] == [HeaderTuple]
        secret = NeverIndexedHeaderTuple("x-answer", "k")
        server.send(server.headers(1, (*OK, secret)), server.headers(3, OK))
        await world.settle()
        assert [type(field) for field in client.take_streams()[0][2] if field[0] == b"x-answer"] == [
            NeverIndexedHeaderTuple
        ]


# --- waits


async def test_streams_of_one_connection_time_out_by_themselves(open_h2c):
    async with open_h2c(settings=CarryingSettings(response_timeout=10, body_timeout=4)) as world:
        client = open_http2(world)
        client.send(client.headers(1, GET))
        server = await accept_http2(world)
        world.advance(5)
        server.send(ping_ack(SILENCE_PING))
        client.send(client.headers(3, POST, is_end=False))
        world.advance(3)
        assert client.take_streams() == []
        world.advance(1.5)
        await world.settle()
        head, _, reset = client.take_streams()
        assert (head[1], dict(head[2])[b":status"], reset) == (3, b"408", ("reset", 3, NO_ERROR))
        world.advance(1)
        await world.settle()
        head, _ = client.take_streams()
        assert (head[1], dict(head[2])[b":status"]) == (1, b"504")
        assert [message for message in server.take_streams() if message[0] == "reset"] == [
            ("reset", 3, CANCEL),
            ("reset", 1, CANCEL),
        ]


async def test_an_idle_connection_ends_with_a_goaway(world):
    client = open_http2(world)
    client.send(client.headers(1, (*GET[:2], (":authority", "other"), GET[3])))
    client.take()
    world.advance(89)
    assert client.take() == []
    world.advance(2)
    assert client.take() == [("goaway", 1, NO_ERROR)]
    assert client.peer.is_closed
