"""Bodies that go through middlewares between clients and servers of HTTP/2, and of HTTP/1.1 on one side."""

import asyncio

import pytest

from maesh_core.plugin_system.interfaces import Response, WholeBody
from maesh_core.proxy.http.http2.stream import STREAM_WINDOW_BYTES

from ..exchanges.body_doubles import Tap, Upper, Uses
from .framing import GET, INTERNAL_ERROR, OK, POST, accept_http2, open_http2

CALL = (*POST, ("content-type", "application/grpc"), ("te", "trailers"))
CALL_HEAD = (*OK, ("content-type", "application/grpc"))


def build_uses(name):
    """Return a middleware that changes both bodies in one way, and that way."""
    if name == "tap":
        return Uses(Tap, Tap), lambda body: body
    if name == "none":
        return Uses(), lambda body: body
    if name == "transform":
        return Uses(Upper, Upper), lambda body: body.upper() + b"!"
    if name == "later":
        return Uses(lambda: Upper(is_async=True), lambda: Upper(is_async=True)), lambda body: body.upper() + b"!"
    whole = WholeBody(limit_bytes=100, decide=lambda body: body[::-1])
    return Uses(whole, whole), lambda body: body[::-1]


@pytest.mark.parametrize("name", ["none", "tap", "transform", "later", "whole"])
@pytest.mark.parametrize("has_length", [False, True])
async def test_bodies_and_trailers_pass_from_http2_to_http2(open_h2c, name, has_length):
    middleware, change = build_uses(name)
    async with open_h2c(middlewares=[middleware]) as world:
        client = open_http2(world)
        length = (("content-length", "5"),) if has_length else ()
        client.send(client.headers(1, (*POST, *length), is_end=False), client.data(1, b"as"))
        client.send(client.data(1, b"ked"), client.headers(1, (("x-sum", "7"),)))
        server = await accept_http2(world)
        await world.settle()
        (_, _, fields, _), *rest = server.take_streams()
        assert b"".join(each[2] for each in rest[:-1]) == change(b"asked")
        assert rest[-1] == ("headers", 1, [(b"x-sum", b"7")], True)
        assert dict(fields).get(b"content-length", b"5") == b"5"
        assert (b"content-length" in dict(fields)) is (has_length and name in ("none", "tap"))
        server.send(
            server.headers(1, (*OK, *length), is_end=False),
            server.data(1, b"an"),
            server.data(1, b"swe"),
            server.headers(1, (("x-end", "1"),)),
        )
        await world.settle()
        await world.settle()
        (_, _, fields, _), *rest = client.take_streams()
        assert b"".join(each[2] for each in rest if each[0] == "data") == change(b"answe")
        assert ("headers", 1, [(b"x-end", b"1")], True) in rest
        assert (b"content-length" in dict(fields)) is (has_length and name in ("none", "tap"))


@pytest.mark.parametrize("name", ["none", "tap", "transform", "later", "whole"])
async def test_bodies_pass_from_http2_to_http1(open_world, name):
    middleware, change = build_uses(name)
    async with open_world(middlewares=[middleware]) as world:
        client = open_http2(world)
        client.send(client.headers(1, POST, is_end=False), client.data(1, b"ask", is_end=True))
        server = await world.accept()
        head, _, body = server.take().partition(b"\r\n\r\n")
        wanted = change(b"ask")
        if name == "whole":
            assert b"\r\nContent-Length: 3\r\n" in head
            assert body == wanted
        else:
            assert b"\r\nTransfer-Encoding: chunked\r\n" in head
            assert body == b"%d\r\n%b\r\n0\r\n\r\n" % (len(wanted), wanted)
        server.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-End: 1\r\n\r\n")
        await world.settle()
        await world.settle()
        (_, _, fields, _), *rest = client.take_streams()
        assert b"transfer-encoding" not in dict(fields)
        assert b"".join(each[2] for each in rest if each[0] == "data") == change(b"ok")
        assert ("headers", 1, [(b"x-end", b"1")], True) in rest


@pytest.mark.parametrize("name", ["none", "tap", "transform", "later", "whole"])
async def test_bodies_pass_from_http1_to_http2(open_h2c, name):
    middleware, change = build_uses(name)
    async with open_h2c(middlewares=[middleware]) as world:
        client = world.open_client()
        client.send(b"POST / HTTP/1.1\r\nHost: a.test.maesh\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nask\r\n0\r\n\r\n")
        server = await accept_http2(world)
        await world.settle()
        (_, _, _, _), *rest = server.take_streams()
        assert b"".join(each[2] for each in rest) == change(b"ask")
        assert rest[-1][3]
        server.send(server.headers(1, OK, is_end=False), server.data(1, b"ok", is_end=True))
        await world.settle()
        await world.settle()
        head, _, body = client.take().partition(b"\r\n\r\n")
        if name == "whole":
            assert (head, body) == (b"HTTP/1.1 200 OK\r\nContent-Length: 2", b"ko")
        else:
            assert b"Transfer-Encoding: chunked" in head
            assert body.endswith(b"\r\n0\r\n\r\n")


async def test_a_whole_body_that_is_refused_is_answered_on_its_stream(open_h2c):
    whole = WholeBody(limit_bytes=2, decide=lambda body: Response(status=422, reason="no"))
    async with open_h2c(middlewares=[Uses(whole)]) as world:
        client = open_http2(world)
        client.send(client.headers(1, POST, is_end=False), client.data(1, b"as", is_end=True))
        client.send(client.headers(3, POST, is_end=False), client.data(3, b"ask", is_end=False))
        await world.settle()
        heads = [(each[1], dict(each[2])[b":status"]) for each in client.take_streams() if each[0] == "headers"]
        assert heads == [(1, b"422"), (3, b"413")]
        assert not world.connects


@pytest.mark.parametrize("name", ["tap", "transform"])
async def test_the_status_of_a_call_is_in_its_trailers(open_h2c, observe, name):
    middleware, change = build_uses(name)
    async with open_h2c(middlewares=[middleware]) as world:
        observed = observe(world)
        client = open_http2(world)
        client.send(client.headers(1, CALL, is_end=False), client.data(1, b"ask", is_end=True))
        server = await accept_http2(world)
        server.send(
            server.headers(1, CALL_HEAD, is_end=False),
            server.data(1, b"answer"),
            server.headers(1, (("grpc-status", "5"),)),
        )
        await world.settle()
        *_, data, trailers = client.take_streams()
        assert data[2] in change(b"answer")
        assert trailers == ("headers", 1, [(b"grpc-status", b"5")], True)
        assert observed.records[0].grpc_status == 5


@pytest.mark.parametrize("is_withheld", [False, True])
async def test_a_call_whose_server_is_lost_ends_with_a_status(open_h2c, is_withheld):
    whole = WholeBody(limit_bytes=100, decide=lambda body: body)
    async with open_h2c(middlewares=[Uses(response=whole if is_withheld else Upper)]) as world:
        client = open_http2(world)
        client.send(client.headers(1, CALL, is_end=False), client.data(1, b"ask", is_end=True))
        server = await accept_http2(world)
        server.send(server.headers(1, CALL_HEAD, is_end=False), server.data(1, b"answer"))
        server.peer.lose()
        await world.settle()
        last = client.take_streams()[-1]
        assert last[0] == "headers"
        assert dict(last[2])[b"grpc-status"] == b"14"


async def test_a_transform_that_fails_in_a_response_resets_its_stream_only(open_h2c):
    class Bad(Upper):
        def end(self, trailers):
            raise RuntimeError("no")

    async with open_h2c(middlewares=[Uses(response=Bad)]) as world:
        client = open_http2(world)
        client.send(client.headers(1, GET), client.headers(3, GET))
        server = await accept_http2(world)
        server.send(server.headers(1, OK, is_end=False), server.data(1, b"a", is_end=True))
        server.send(server.headers(3, OK, is_end=True))
        await world.settle()
        messages = client.take_streams()
        assert ("reset", 1, INTERNAL_ERROR) in messages
        assert messages[-1][:2] == ("headers", 3)


async def test_a_server_gets_no_credit_while_a_use_is_awaited(open_h2c):
    event = asyncio.Event()

    class Slow(Upper):
        async def feed(self, data):
            await event.wait()
            return data

    async with open_h2c(middlewares=[Uses(response=Slow)]) as world:
        client = open_http2(world)
        client.send(client.headers(1, GET))
        server = await accept_http2(world)
        server.send(server.headers(1, OK, is_end=False))
        for _ in range(STREAM_WINDOW_BYTES // 16384):
            server.send(server.data(1, b"a" * 16384))
        await world.settle()
        assert not [each for each in server.take() if each[0] == "window" and each[1] == 1]
        event.set()
        for _ in range(4):
            await world.settle()
        assert [each for each in server.take() if each[0] == "window" and each[1] == 1]
