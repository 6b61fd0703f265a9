"""Connections to servers are pooled, used again and closed; requests meet stale connections."""

import pytest

from .upstream_messages import CHUNKED, GET, OK, POST, ask, is_502


@pytest.mark.parametrize("response", [OK, b"HTTP/1.1 204 No Content\r\n\r\n", CHUNKED + b"0\r\n\r\n"])
@pytest.mark.parametrize("surplus", [b"!", OK])
async def test_surplus_bytes_are_dropped_and_close_the_connection(world, response, surplus):
    client, server = await ask(world)
    server.send(response + surplus)
    client.expect(response)
    assert server.is_closed
    assert not world.idle


async def test_unsolicited_bytes_close_an_idle_connection(world):
    server = await world.pool()
    server.send(OK)
    assert server.is_closed
    assert not world.idle
    client, _ = await ask(world)
    client.expect(b"")


async def test_the_most_recently_used_connection_is_reused_first(world):
    (client, first), (_, second) = await ask(world), await ask(world)
    first.send(OK)
    second.send(OK)
    assert world.idle == [first.protocol, second.protocol]
    first.take()
    second.take()
    client.send(GET)
    assert second.take().startswith(b"GET ")
    first.expect(b"")


@pytest.mark.parametrize("option", [b"close", b"Keep-Alive, Close"])
async def test_a_connection_that_the_server_ends_is_not_pooled(world, option):
    client, server = await ask(world)
    server.send(OK.replace(b"\r\n\r\n", b"\r\nConnection: " + option + b"\r\n\r\n"))
    client.expect(OK)
    assert not client.is_closed
    assert server.is_closed
    assert not world.idle


async def test_the_same_head_has_a_body_for_get_and_none_for_head(world):
    client, server = await ask(world)
    for method in (b"GET", b"HEAD", b"GET", b"GET", b"HEAD"):
        answer = OK if method == b"GET" else OK[: OK.index(b"\r\n\r\n") + 4]
        if server.take() == b"":
            client.send(GET.replace(b"GET", method))
            assert server.take().startswith(method)
        server.send(answer)
        client.expect(answer)
        assert world.idle == [server.protocol]


async def test_a_connection_with_an_incomplete_request_is_not_pooled(world):
    client, server = await ask(world, POST)
    server.stop_taking()
    server.send(OK)
    client.expect(OK)
    assert not client.is_closed
    assert server.is_closed


async def test_idle_pooled_connections_are_closed_in_time_oldest_first(world):
    (_, first), (_, second) = await ask(world), await ask(world)
    first.send(OK)
    world.advance(30.0)
    second.send(OK)
    world.advance(30.25)
    assert first.is_closed
    assert world.idle == [second.protocol]


async def test_a_removed_server_finishes_its_exchange_and_keeps_no_connection(world):
    client, busy = await ask(world)
    idle = await world.pool()
    world.apply(servers=0)
    assert idle.is_closed
    busy.send(OK)
    client.expect(OK)
    assert busy.is_closed
    client.send(GET)
    assert client.take().startswith(b"HTTP/1.1 503 ")


async def test_a_pooled_connection_that_its_server_ends_is_not_used_in_the_same_turn(world):
    server = await world.pool()
    server.end()
    _, other = await ask(world, POST)
    assert other.take().startswith(b"POST ")


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"])
async def test_an_idempotent_request_on_a_stale_connection_is_sent_once_more(world, method):
    stale = await world.pool()
    client = world.open_client()
    client.send(GET.replace(b"GET", method))
    assert stale.take().startswith(method)
    stale.lose()
    fresh = await world.accept()
    assert fresh.take().startswith(method)
    fresh.lose()
    await world.settle()
    assert is_502(client.take())
    assert not world.connects


@pytest.mark.parametrize("request_", [POST, GET.replace(b"GET", b"POST"), POST.replace(b"POST", b"PUT")])
async def test_a_request_that_is_not_idempotent_or_has_a_body_is_not_sent_again(world, request_):
    stale = await world.pool()
    client = world.open_client()
    client.send(request_)
    stale.lose()
    await world.settle()
    assert is_502(client.take())
    assert not world.connects


@pytest.mark.parametrize("begin", [b"H", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_a_connection_that_delivered_bytes_is_not_stale(world, begin):
    stale = await world.pool()
    client = world.open_client()
    client.send(GET)
    stale.send(begin)
    stale.lose()
    await world.settle()
    assert is_502(client.take().removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n"))
    assert not world.connects


async def test_a_request_with_a_pending_body_survives_a_stale_connection(world, forwarded):
    stale = await world.pool()
    client = world.open_client()
    head = b"PUT / HTTP/1.1\r\nHost: a.test.maesh\r\nContent-Length: 3\r\n"
    client.send(head + b"\r\n")
    stale.lose()
    client.send(b"ab")
    fresh = await world.accept()
    client.send(b"c")
    fresh.expect(head + forwarded + b"abc")


async def test_a_pooled_connection_is_always_read(world):
    client, server = await ask(world)
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    client.stop_taking()
    server.protocol.data_received(b"defghi")
    assert world.idle == [server.protocol]
    assert server.transport.is_reading
