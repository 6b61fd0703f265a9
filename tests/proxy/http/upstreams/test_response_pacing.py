"""Slow clients and servers, and responses that are forwarded over several turns of the event loop."""

import asyncio

import pytest

from maesh_core.proxy.http.messages.chunked import TURN_LINES
from maesh_core.proxy.http.transports import FULL_READ_BYTES, TURN_READS

from .upstream_messages import CHUNKED, GET, OK, POST, ask


async def test_only_a_slow_client_pauses_the_server(world):
    client, server = await ask(world)
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    client.stop_taking()
    assert not server.transport.is_reading
    client.take_again()
    assert server.transport.is_reading
    client.stop_taking()
    client.take_again()
    server.send(b"defghi")
    assert world.idle == [server.protocol]


async def test_a_client_that_reads_nothing_of_a_body_is_cut_in_time(world):
    client, server = await ask(world)
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    client.stop_taking()
    world.advance(59.0)
    assert not client.is_closed
    world.advance(1.0)
    assert client.transport.is_reset
    assert server.is_closed


async def test_only_a_slow_server_pauses_the_client(world):
    client, server = await ask(world, POST.replace(b"3", b"9"))
    server.stop_taking()
    assert not client.transport.is_reading
    server.take_again()
    client.send(b"defghi")
    server.send(OK)
    client.expect(OK)


TINY = b"1\r\nz\r\n"
LAST = b"0\r\n\r\n"


async def begin_stream(world, head=CHUNKED, request=GET):
    client = world.open_client()
    client.send(request)
    server = await world.accept()
    server.send(head)
    client.take()
    return client, server


async def test_tiny_chunks_of_a_response_are_forwarded_a_few_per_turn(world):
    client, server = await begin_stream(world)
    server.send(TINY * 100 + LAST)
    client.expect(TINY * (TURN_LINES // 2))
    assert not server.transport.is_reading
    await asyncio.sleep(0)
    client.expect(TINY * (TURN_LINES // 2))
    await world.settle()
    client.expect(TINY * (100 - TURN_LINES) + LAST)
    assert server.transport.is_reading
    assert len(world.idle) == 1


async def test_an_http_1_0_client_gets_tiny_chunks_as_content_over_several_turns(world):
    request = b"GET / HTTP/1.0\r\nHost: a.test.maesh\r\n\r\n"
    client, server = await begin_stream(world, request=request)
    server.send(TINY * 100 + LAST)
    await world.settle()
    client.expect(b"z" * 100)


async def test_a_slow_client_pauses_a_response_of_tiny_chunks_between_turns(world):
    client, server = await begin_stream(world)
    server.send(TINY * 100 + LAST)
    client.stop_taking()
    client.take()
    await world.settle()
    client.expect(b"")
    assert not server.transport.is_reading
    client.take_again()
    await world.settle()
    assert client.take().endswith(TINY + LAST)
    assert server.transport.is_reading


@pytest.mark.parametrize("rest", [b"x\r\n", LAST + b"more"])
async def test_an_error_of_a_server_in_a_later_turn_closes_its_connection(world, rest):
    client, server = await begin_stream(world)
    server.send(TINY * 100 + rest)
    await world.settle()
    assert server.is_closed
    assert client.is_closed is not rest.startswith(LAST)
    assert not world.idle


async def test_a_client_that_leaves_between_two_turns_ends_a_response_of_tiny_chunks(world):
    client, server = await begin_stream(world)
    server.send(TINY * 100)
    client.lose()
    await world.settle()
    assert server.is_closed


async def test_a_large_response_yields_to_others_after_a_few_full_reads(world):
    read = b"x" * FULL_READ_BYTES
    client, server = await begin_stream(world, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (6 * len(read)))
    for _ in range(TURN_READS):
        assert server.transport.is_reading
        server.send(read)
    assert not server.transport.is_reading
    await world.settle()
    assert server.transport.is_reading
    server.send(read)
    server.send(read)
    client.expect(read * 6)
    assert len(world.idle) == 1
