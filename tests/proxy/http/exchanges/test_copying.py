"""Requests that are copied to side services."""

import pytest

from maesh_core.plugin_system.interfaces import Response
from maesh_core.proxy.http.copies import COPY_LIMIT

from .copying_doubles import (
    GET,
    SIDE,
    Copier,
    apply,
    read_outcomes,
    send,
)
from .middleware_doubles import OK, POST, get_status


async def test_a_copy_goes_to_the_side_service_as_the_request_goes_to_its_own(open_world, observe):
    async with open_world() as world:
        copier = Copier()
        apply(world, copier)
        seen = observe(world)
        client, servers = await send(world)
        assert copier.results == [True]
        sent = servers["10.0.1.1"].take()
        assert sent.startswith(b"GET /x?y HTTP/1.1\r\nHost: a.test.maesh\r\n")
        servers["10.0.2.1"].expect(sent)
        servers["10.0.1.1"].send(OK)
        assert get_status(client) == 200
        servers["10.0.2.1"].send(b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno")
        await world.settle()
        assert client.take() == b""
        assert len(world.idle) == 2
        assert read_outcomes(world) == {"answered": 1}
        seen.expect_one(sent_bytes=2, others={("maesh_service_copies", "a", SIDE, "answered"): 1})


async def test_a_copy_neither_delays_nor_fails_its_request(open_world):
    async with open_world() as world:
        apply(world, Copier())
        client = world.open_client()
        client.send(GET)
        await world.settle()
        assert [address for _, address, _ in world.connects] == ["10.0.1.1", "10.0.2.1"]
        server = await world.accept()
        server.send(OK)
        assert get_status(client) == 200
        await world.refuse()
        assert read_outcomes(world) == {"failed": 1}
        assert client.take() == b""


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
        b"nonsense\r\n\r\n",
        b"",
        b"HTTP/1.1 101 S\r\nUpgrade: x\r\n\r\n",
    ],
)
async def test_a_server_that_breaks_off_its_response_fails_the_copy_alone(open_world, reply):
    async with open_world() as world:
        apply(world, Copier())
        client, servers = await send(world)
        if reply:
            servers["10.0.2.1"].send(reply)
        servers["10.0.2.1"].lose()
        await world.settle()
        assert read_outcomes(world) == {"failed": 1}
        servers["10.0.1.1"].send(OK)
        assert get_status(client) == 200


async def test_a_copy_that_is_not_answered_in_time_is_ended(open_world):
    async with open_world() as world:
        apply(world, Copier())
        client, servers = await send(world)
        servers["10.0.1.1"].send(OK)
        world.advance(31)
        await world.settle()
        assert servers["10.0.2.1"].is_closed
        assert read_outcomes(world) == {"timed-out": 1}
        assert get_status(client) == 200


async def test_a_copy_outlives_its_client(open_world):
    async with open_world() as world:
        apply(world, Copier())
        client, servers = await send(world)
        client.lose()
        servers["10.0.2.1"].send(OK)
        await world.settle()
        assert read_outcomes(world) == {"answered": 1}


async def test_a_stale_connection_of_the_pool_is_replaced_once(open_world):
    async with open_world() as world:
        apply(world, Copier())
        for _ in range(2):
            _, servers = await send(world)
            for server in servers.values():
                server.send(OK)
            await world.settle()
            for peer in world.servers:
                if peer not in servers.values() and not peer.is_closed:
                    peer.send(OK)
        assert read_outcomes(world) == {"answered": 2}
        stale = next(each for each in world.servers if each.transport.peer == "10.0.2.1")
        client = world.open_client()
        client.send(GET)
        await world.settle()
        stale.lose()
        server = await world.accept()
        assert server.take().startswith(b"GET /x?y")
        server.send(OK)
        await world.settle()
        assert read_outcomes(world) == {"answered": 3}


async def test_copies_above_the_limit_are_dropped(open_world):
    async with open_world() as world:
        copier = Copier()
        apply(world, copier)
        for _ in range(COPY_LIMIT):
            await send(world)
        _, servers = await send(world)
        assert copier.results == [True] * COPY_LIMIT + [False]
        assert list(servers) == ["10.0.1.1"]
        assert read_outcomes(world) == {"dropped": 1}


async def test_a_copy_is_sent_with_what_later_middlewares_change(open_world):
    def change(exchange):
        exchange.new_target, exchange.new_host = b"/z", b"b.example"
        exchange.request_headers.set(b"X-A", b"1")

    async with open_world() as world:
        apply(world, Copier(change=change))
        _, servers = await send(world)
        sent = servers["10.0.2.1"].take()
        assert sent == servers["10.0.1.1"].take()
        assert sent.startswith(b"GET /z HTTP/1.1\r\nHost: b.example\r\nX-A: 1\r\n")
        assert b"X-Forwarded-Host: a.test.maesh\r\n" in sent


async def test_a_copy_with_a_body_declares_its_length_and_expects_nothing(open_world):
    chunked = (
        b"POST / HTTP/1.1\r\nHost: a.test.maesh\r\nTransfer-Encoding: chunked\r\nX-A: 1\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    )
    expecting = POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n").replace(b"\r\n\r\nabc", b"\r\n\r\n")
    async with open_world() as world:
        apply(world, Copier(body=b"abc"))
        for request in (POST, chunked, expecting):
            _, servers = await send(world, request)
            sent = servers["10.0.2.1"].take()
            assert sent.count(b"Content-Length: 3\r\n") == 1
            assert sent.endswith(b"\r\n\r\nabc")
            assert b"Transfer-Encoding" not in sent
            assert b"Expect" not in sent


async def test_a_request_that_is_answered_before_it_is_sent_is_not_copied(open_world):
    async with open_world() as world:
        apply(world, Copier(then=Response(status=418, reason="no")))
        client, servers = await send(world)
        assert get_status(client) == 418
        assert not servers
        assert read_outcomes(world) == {}


async def test_what_is_no_side_service_gets_no_copy_and_an_upgrade_is_not_copied(open_world):
    upgrade = GET.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    async with open_world() as world:
        stranger, copier = Copier(service="b"), Copier()
        apply(world, stranger)
        assert list((await send(world))[1]) == ["10.0.1.1"]
        apply(world, copier)
        assert list((await send(world, upgrade))[1]) == ["10.0.1.1"]
        assert stranger.results == copier.results == [False]


async def test_a_side_service_without_servers_is_counted(open_world):
    async with open_world() as world:
        apply(world, Copier(), side_servers=0)
        assert list((await send(world))[1]) == ["10.0.1.1"]
        assert read_outcomes(world) == {"no-server": 1}


async def test_copies_in_progress_end_with_the_proxy(open_world):
    async with open_world() as world:
        apply(world, Copier(times=2), side_servers=2)
        client = world.open_client()
        client.send(GET)
        await world.settle()
        world.let_connect()
        await world.settle()
        assert len(world.handler.environment.copies.open) == 2
    assert not world.handler.environment.copies.open


async def test_a_copy_is_sent_over_http2_to_servers_that_speak_it(open_world):
    async with open_world() as world:
        apply(world, Copier(body=b"abc"), scheme="h2c")
        _, servers = await send(world, POST)
        assert servers["10.0.2.1"].take().startswith(b"PRI * HTTP/2.0")
