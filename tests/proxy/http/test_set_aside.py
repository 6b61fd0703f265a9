"""Servers that take no connection, or break one instead of answering, are set aside and come back."""

import dataclasses

import pytest

from maesh_core.proxy.http.request_counters import collect_ejections
from maesh_core.settings import CarryingSettings

GET = b"GET / HTTP/1.1\r\nHost: a.test.maesh\r\n\r\n"
POST = GET.replace(b"GET", b"POST")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
FIRST, SECOND = "10.0.1.1", "10.0.1.2"
SETTINGS = CarryingSettings(node="node")
PAUSE_S = SETTINGS.server_pause


@pytest.fixture
async def pair(open_world):
    async with open_world(servers=2) as world:
        world.handler.environment.health.random_share = lambda: 0.5  # pauses are exact
        yield world


@pytest.fixture
async def single(open_world):
    async with open_world(servers=1) as world:
        world.handler.environment.health.random_share = lambda: 0.5
        yield world


def ask(world, request=GET):
    client = world.open_client()
    client.send(request)
    return client


async def refuse_first(world, error=None):
    client = ask(world)
    assert await world.refuse(error) == FIRST
    return client


async def serve(world):
    """Answer one request over whatever connection it takes; return the server's address."""
    for server in world.servers:
        server.take()
    client = ask(world)
    await world.settle()
    server = await world.accept() if world.connects else None
    if server is None:
        (server,) = [each for each in world.servers if each.take()]
    server.take()
    server.send(OK)
    client.expect(OK)
    client.lose()
    return server.transport.name.removeprefix("server ")


async def serve_many(world, count):
    return [await serve(world) for _ in range(count)]


def read_ejections(world):
    table = world.handler.current.table
    aside, ejections = collect_ejections(table.counters, table.count_aside())
    return aside.samples[0][1], ejections.samples[0][1]


@pytest.mark.parametrize("error", [ConnectionRefusedError(), TimeoutError(), OSError("no route")], ids=type)
async def test_a_server_that_takes_no_connection_gets_no_request_until_its_pause_is_over(pair, error):
    client = await refuse_first(pair, error)
    assert client.take().startswith(b"HTTP/1.1 50")
    assert await serve_many(pair, 3) == [SECOND] * 3
    assert read_ejections(pair) == (1, 1)
    pair.advance(PAUSE_S)
    assert set(await serve_many(pair, 3)) == {FIRST, SECOND}
    assert read_ejections(pair) == (0, 1)


async def test_the_request_that_met_the_server_is_not_tried_again_by_the_core(pair):
    client = await refuse_first(pair)
    assert client.take().startswith(b"HTTP/1.1 502 ")
    assert not pair.connects


async def test_a_trial_that_fails_doubles_the_pause(pair):
    await refuse_first(pair)
    assert await serve(pair) == SECOND
    pair.advance(PAUSE_S)
    await refuse_first(pair)
    pair.advance(1.9 * PAUSE_S)
    assert await serve_many(pair, 3) == [SECOND] * 3
    pair.advance(0.1 * PAUSE_S)
    assert FIRST in await serve_many(pair, 2)


async def test_a_server_that_breaks_a_new_connection_before_a_head_is_set_aside(pair):
    client = ask(pair)
    server = await pair.accept()
    server.lose(ConnectionResetError())
    assert client.take().startswith(b"HTTP/1.1 502 ")
    assert await serve_many(pair, 2) == [SECOND] * 2


async def test_a_server_that_breaks_within_a_head_is_set_aside_even_on_a_pooled_connection(pair):
    assert await serve_many(pair, 2) == [FIRST, SECOND]
    ask(pair)
    await pair.settle()
    pair.servers[0].send(b"HTTP/1.1 200")
    pair.servers[0].lose()
    assert await serve_many(pair, 2) == [SECOND] * 2


async def test_a_pooled_connection_that_the_server_had_closed_says_nothing_of_its_health(pair):
    assert await serve_many(pair, 2) == [FIRST, SECOND]
    client = ask(pair, POST)
    await pair.settle()
    pair.servers[0].lose()
    assert client.take().startswith(b"HTTP/1.1 502 ")
    assert read_ejections(pair) == (0, 0)


async def test_a_server_that_is_slow_or_breaks_within_a_body_stays_in_use(pair):
    client = ask(pair)
    server = await pair.accept()
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok")
    server.lose(ConnectionResetError())
    slow = ask(pair)
    await pair.accept()
    pair.advance(SETTINGS.response_timeout + 1)
    assert client.is_closed
    assert slow.take().startswith(b"HTTP/1.1 504 ")
    assert read_ejections(pair) == (0, 0)


async def test_the_only_server_is_not_lost_to_one_failure(single):
    await refuse_first(single)
    assert await serve(single) == FIRST
    assert read_ejections(single) == (0, 1)


async def test_where_all_servers_stay_away_the_answer_is_503_at_once_between_trials(single):
    await refuse_first(single)
    single.advance(0.5 * PAUSE_S)
    await refuse_first(single)
    for _ in range(6):  # however long the pause has grown
        single.advance(PAUSE_S)
        trial, client = ask(single), ask(single)
        assert client.take().startswith(b"HTTP/1.1 503 ")
        await single.refuse()
        assert trial.take().startswith(b"HTTP/1.1 502 ")
    single.advance(PAUSE_S)
    assert await serve_many(single, 3) == [FIRST] * 3


async def test_health_outlives_a_change_of_other_servers(pair):
    await refuse_first(pair)
    pair.apply(servers=3)
    assert set(await serve_many(pair, 4)) == {SECOND, "10.0.1.3"}


@pytest.mark.parametrize("change", [{"passive_health": False}, {"server_pause": 0.0}], ids=str)
async def test_it_can_be_turned_off(open_world, change):
    async with open_world(servers=2, settings=dataclasses.replace(SETTINGS, **change)) as world:
        await refuse_first(world)
        assert await serve_many(world, 2) == [SECOND, FIRST]


async def test_requests_under_way_are_those_that_have_a_connection_or_wait_for_one(world):
    (server,) = world.handler._servers.values()
    client, given_up, refused = ask(world), ask(world), ask(world)
    await world.settle()
    assert server.under_way == 3
    given_up.lose()
    assert server.under_way == 2
    peer = await world.accept()
    world.connects.pop(0)[2].cancel()
    await world.refuse()
    assert refused.take().startswith(b"HTTP/1.1 502 ")
    assert (server.opened, server.under_way) == (1, 1)
    peer.send(OK)
    client.expect(OK)
    assert (server.opened, server.under_way) == (1, 0)
    peer.lose()
    assert (server.opened, server.under_way) == (0, 0)


async def test_least_request_prefers_the_server_that_has_less_to_do(open_world):
    async with open_world(servers=2, load_balancer="least-request") as world:
        ask(world)
        busy = (await world.accept()).transport.name
        for _ in range(10):
            assert f"server {await serve(world)}" != busy


async def test_a_tunnel_is_under_way_until_it_ends(world):
    (server,) = world.handler._servers.values()
    client = ask(world, GET[:-2] + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    peer = await world.accept()
    peer.send(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert client.take().startswith(b"HTTP/1.1 101 ")
    assert server.under_way == 1
    client.lose()
    await world.settle()
    assert (server.opened, server.under_way) == (0, 0)


def read_aside(world):
    (family,) = [each for each in world.handler.collect_metrics() if each.name == "maesh_server_aside"]
    return dict(family.samples)


async def test_servers_that_are_set_aside_are_named_until_they_are_in_use_again(pair):
    assert read_aside(pair) == {}
    await refuse_first(pair)
    assert read_aside(pair) == {(f"{FIRST}:80",): 1}
    pair.advance(PAUSE_S)
    while read_aside(pair):
        await serve(pair)


async def test_requests_are_counted_by_entrypoint_also_those_without_a_route(single):
    ask(single, GET.replace(b"a.test", b"b.test"))
    await serve(single)
    ask(single, b"nonsense\r\n\r\n")
    (family,) = [each for each in single.handler.collect_metrics() if each.name == "maesh_entrypoint_requests"]
    assert dict(family.samples) == {("5000", "2xx"): 1, ("5000", "4xx"): 1}
