"""Time-outs of clients' connections: for heads, bodies and responses, and while idle or lingering."""

import pytest

from maesh_core.settings import CarryingSettings

from .client_requests import GET, PART, UNKNOWN, ask, read_status


async def test_a_late_head_is_408(world):
    client = world.open_client()
    client.send(b"GET / HT")
    world.advance(9.0)
    client.send(b"TP/1.1\r\n")
    client.expect(b"")
    world.advance(1.0)
    assert read_status(client.take()) == 408
    world.advance(5.0)
    assert client.is_closed


async def test_a_connection_without_a_request_is_closed_in_time_without_an_answer(world):
    client = world.open_client()
    world.advance(10.0)
    assert client.is_closed
    client.expect(b"")


async def test_an_idle_connection_is_closed_in_time(world):
    client = world.open_client()
    client.send(UNKNOWN)
    world.advance(89.0)
    assert not client.is_closed
    world.advance(1.0)
    assert client.is_closed


async def test_a_stalled_body_is_408_timed_from_its_last_byte(world):
    client = world.open_client()
    server = await ask(world, client, b"POST / HTTP/1.1\r\nHost: a.test.maesh\r\nContent-Length: 9\r\n\r\nabc")
    world.advance(59.0)
    client.send(b"d")
    world.advance(59.0)
    client.expect(b"")
    world.advance(1.0)
    assert read_status(client.take()) == 408
    assert server.is_closed


async def test_a_body_over_a_pooled_connection_has_the_time_out_of_bodies(open_world):
    async with open_world(settings=CarryingSettings(response_timeout=5.0)) as world:
        await world.pool()
        client = world.open_client()
        client.send(b"POST / HTTP/1.1\r\nHost: a.test.maesh\r\nContent-Length: 9\r\n\r\n")
        world.advance(59.0)
        client.expect(b"")
        world.advance(1.0)
        assert read_status(client.take()) == 408


async def test_a_server_that_does_not_read_a_body_is_504(world):
    client = world.open_client()
    server = await ask(world, client, b"POST / HTTP/1.1\r\nHost: a.test.maesh\r\nContent-Length: 9\r\n\r\nabc")
    server.stop_taking()
    world.advance(60.0)
    assert read_status(client.take()) == 504


@pytest.mark.parametrize("is_pooled", [False, True])
async def test_a_missing_response_is_504(world, is_pooled):
    if is_pooled:
        await world.pool()
    client = world.open_client()
    client.send(GET)
    server = world.servers[0] if is_pooled else await world.accept()
    world.advance(59.0)
    client.expect(b"")
    world.advance(1.0)
    assert read_status(client.take()) == 504
    assert server.is_closed
    client.send(UNKNOWN)
    assert read_status(client.take()) == 404


async def test_a_client_that_does_not_read_the_end_of_a_response_is_cut(world):
    client = world.open_client()
    client.send(UNKNOWN[:-2] + b"Connection: close\r\n\r\n")
    assert client.transport.is_closing()
    assert not client.transport.is_aborted
    world.advance(60.0)
    assert client.transport.is_reset


async def test_bytes_of_a_refused_client_are_discarded_for_a_while(world):
    client = world.open_client()
    client.send(b"\0\r\n\r\n")
    assert client.transport.has_ended
    client.send(b"x" * 100_000)
    world.advance(4.75)
    assert not client.is_closed
    world.advance(0.25)
    assert client.is_closed


async def test_a_client_that_continues_to_send_after_its_answer_is_read_up_to_a_limit(world):
    client = world.open_client()
    client.send(b"\0\r\n\r\n")
    for _ in range(7):
        world.advance(4.0)
        client.send(b"x")
    world.advance(1.75)
    client.send(b"x")
    assert not client.is_closed
    world.advance(0.25)
    assert client.is_closed


DISTINCT = CarryingSettings(body_timeout=10.0, upstream_body_timeout=20.0, response_timeout=30.0, idle_timeout=40.0)
UPLOAD = b"POST / HTTP/1.1\r\nHost: a.test.maesh\r\nContent-Length: 9\r\n\r\nabc"


async def test_clients_and_servers_have_separate_time_outs_for_bodies(open_world):
    async with open_world(settings=DISTINCT) as world:
        sends, reads, stalls, takes_none, waits = (world.open_client() for _ in range(5))
        servers = [await ask(world, client, UPLOAD) for client in (sends, takes_none)]
        servers[1].stop_taking()
        servers += [await ask(world, client) for client in (reads, stalls, waits)]
        servers[2].send(PART)
        servers[3].send(PART)
        reads.stop_taking()
        world.advance(10.0)
        assert read_status(sends.take()) == 408
        assert reads.transport.is_reset
        assert not stalls.is_closed
        takes_none.expect(b"")
        world.advance(10.0)
        assert stalls.transport.is_reset
        assert read_status(takes_none.take()) == 504
        waits.expect(b"")
        world.advance(10.0)
        assert read_status(waits.take()) == 504


async def test_the_time_out_of_a_server_restarts_when_a_slow_client_reads(open_world):
    async with open_world(settings=DISTINCT) as world:
        client = world.open_client()
        server = await ask(world, client)
        server.send(PART)
        client.stop_taking()
        world.advance(9.0)
        client.take_again()
        world.advance(19.0)
        assert not client.is_closed
        world.advance(1.0)
        assert client.transport.is_reset


async def test_a_slow_but_steady_reader_is_not_cut(open_world):
    async with open_world(settings=DISTINCT) as world:
        reads, sends, leaves = (world.open_client() for _ in range(3))
        (await ask(world, reads)).send(PART)
        server = await ask(world, sends, UPLOAD)
        leaves.send(UNKNOWN[:-2] + b"Connection: close\r\n\r\n")
        takers = [reads, server, leaves]
        for taker in takers:
            taker.stop_taking(1000)
        for left in (999, 500, 1):
            for taker in takers:
                taker.transport.unsent_bytes = left
            world.advance(20.0)
            assert not reads.transport.is_aborted
            assert not server.is_closed
            assert not leaves.transport.is_aborted
        world.advance(20.0)
        assert reads.transport.is_reset
        assert leaves.transport.is_reset
        assert read_status(sends.take()) == 504
