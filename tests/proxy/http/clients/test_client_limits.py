"""Limits of clients' connections: header fields, requests, connections of a worker and of a client."""

import pytest

from maesh_core.proxy.http.messages.syntax import SMALL_HEAD_BYTES
from maesh_core.settings import CarryingSettings

from .client_requests import GET, OK, PART, UNKNOWN, ask, read_status


async def test_too_large_heads_are_refused_at_once_whole_or_split(open_world):
    settings = CarryingSettings(head_limit=1024, target_limit=256)
    line = b"GET /%b HTTP/1.1\r\n"
    exact = line % (b"x" * (256 - len(line) + 4))
    assert len(exact) == 258
    cases = [
        (exact + b"Host: a\r\n\r\n", 404),
        (exact.replace(b"/x", b"/xx") + b"Host: a\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * (1024 - 32) + b"\r\n\r\n", 404),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * (1025 - 32) + b"\r\n\r\n", 431),
    ]
    for request, status in cases:
        for size in (1, 7, len(request)):
            async with open_world(settings=settings) as world:
                client = world.open_client()
                for start in range(0, len(request), size):
                    client.send(request[start : start + size])
                assert read_status(client.take()) == status


def make_head(fields):
    return b"GET / HTTP/1.1\r\nHost: unknown\r\n" + b"A: b\r\n" * (fields - 1) + b"\r\n"


@pytest.mark.parametrize(("fields", "status"), [(100, 404), (101, 431)])
async def test_a_request_with_too_many_fields_is_refused(open_world, fields, status):
    head = make_head(fields)
    for cut in (0, 1, 400, len(head) - 1):
        async with open_world() as world:
            client = world.open_client()
            if cut:
                client.send(head[:cut])
            client.send(head[cut:])
            assert read_status(client.take()) == status


async def test_no_small_head_has_more_fields_than_the_lowest_limit(open_world):
    smallest = b"GET / HTTP/1.1\r\nHost:\r\n\r\n"
    assert (SMALL_HEAD_BYTES - len(smallest)) // len(b"a:\r\n") + 1 < 64
    async with open_world(settings=CarryingSettings(field_limit=64)) as world:
        client = world.open_client()
        client.send(make_head(64))
        assert read_status(client.take()) == 404
        client.send(make_head(65))
        assert read_status(client.take()) == 431


async def test_the_last_request_of_a_connection_is_answered_with_connection_close(open_world):
    async with open_world(settings=CarryingSettings(request_limit=2)) as world:
        client = world.open_client()
        server = await ask(world, client, GET * 3)
        server.send(OK)
        client.expect(OK)
        server.send(OK)
        client.expect(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        assert server.take().count(b"GET / ") == 2
        assert client.transport.has_ended
        assert len(world.idle) == 1


def list_refused(world):
    metrics = {metric.name: metric.samples for metric in world.handler.collect_metrics()}
    return {reason: count for (reason,), count in metrics["maesh_http_refused_connections"]}


def count_evicted(world):
    (metric,) = [each for each in world.handler.collect_metrics() if each.name == "maesh_http_evicted_connections"]
    return metric.samples[0][1]


async def test_new_clients_above_the_limit_are_closed_and_counted_if_none_is_idle(open_world):
    async with open_world(settings=CarryingSettings(connection_limit=2)) as world:
        first, second = world.open_client(), world.open_client()
        await ask(world, first)
        await ask(world, second)
        third = world.open_client()
        assert [peer.is_closed for peer in (first, second, third)] == [False, False, True]
        third.expect(b"")
        first.lose()
        fourth = world.open_client()
        fourth.send(UNKNOWN)
        assert read_status(fourth.take()) == 404
        assert list_refused(world) == {"connection-limit": 1, "client-connection-limit": 0}
        assert count_evicted(world) == 0
        metrics = {metric.name: list(metric.samples) for metric in world.handler.collect_metrics()}
        assert (("client",), 2) in metrics["maesh_http_connections"]


async def test_the_longest_idle_connection_is_closed_for_a_new_one_at_the_limit(open_world):
    async with open_world(settings=CarryingSettings(connection_limit=3, head_timeout=50.0)) as world:
        clients = []
        for _ in range(3):
            clients.append(world.open_client())
            world.advance(1.0)
        clients[0].send(UNKNOWN)
        world.advance(1.0)
        clients[1].send(UNKNOWN)
        order = [clients[2], clients[0], clients[1]]
        for position, oldest in enumerate(order, start=1):
            world.advance(0.25)
            newcomer = world.open_client()
            assert [peer.is_closed for peer in order] == [True] * position + [False] * (3 - position)
            assert not oldest.transport.is_aborted
            server = await ask(world, newcomer)
            server.send(PART)
        await world.settle()
        assert world.open_client().is_closed
        assert count_evicted(world) == 3
        assert list_refused(world)["connection-limit"] == 1


BUSY = {
    "bytes that it has not taken": lambda client: client.stop_taking(1),
    "a refusal that it has to read": lambda client: client.send(b"nonsense\r\n\r\n"),
}


@pytest.mark.parametrize("keep_busy", BUSY.values(), ids=BUSY)
async def test_a_busy_connection_is_not_evicted(open_world, keep_busy):
    async with open_world(settings=CarryingSettings(connection_limit=1)) as world:
        client = world.open_client()
        keep_busy(client)
        assert world.open_client().is_closed
        assert not client.is_closed
        assert count_evicted(world) == 0


async def test_the_oldest_partial_head_is_evicted_if_no_connection_is_idle(open_world):
    async with open_world(settings=CarryingSettings(connection_limit=4, head_timeout=50.0)) as world:
        parts = [GET[:-2], b"G", b"\r\nG"]
        clients = []
        for part in parts:
            clients.append(world.open_client())
            clients[-1].send(part)
            world.advance(1.0)
        clients.insert(0, world.open_client())
        for position in range(1, 5):
            world.advance(0.25)
            server = await ask(world, world.open_client())
            server.send(PART)
            assert [client.is_closed for client in clients] == [True] * position + [False] * (4 - position)
        assert count_evicted(world) == 4


async def test_a_connection_with_unsent_bytes_of_its_last_response_is_not_idle(open_world):
    async with open_world(settings=CarryingSettings(connection_limit=1)) as world:
        client = world.open_client()
        client.transport.unsent_bytes = 1
        assert world.open_client().is_closed
        client.transport.unsent_bytes = 0
        world.advance(0.25)
        assert not world.open_client().is_closed
        assert client.is_closed


async def test_a_client_at_its_own_limit_is_refused_and_others_are_served(open_world):
    async with open_world(settings=CarryingSettings(connection_limit=9, client_connection_limit=2)) as world:
        clients = [world.open_client(address) for address in ("10.0.0.1", "::ffff:10.0.0.1", "10.0.0.1", "10.0.0.2")]
        assert [client.is_closed for client in clients] == [False, False, True, False]
        assert list_refused(world) == {"connection-limit": 0, "client-connection-limit": 1}
        clients[0].lose()
        assert not world.open_client("10.0.0.1").is_closed
        assert count_evicted(world) == 0
