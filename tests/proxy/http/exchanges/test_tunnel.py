"""Tunnels: bytes both ways, back-pressure, ends, time-outs and draining."""

import pytest

from maesh_core.model.configuration import Section
from maesh_core.model.traffic_record import CUT, IDLE, PROXY_ENDED, ROUTE_REMOVED
from maesh_core.proxy.http.answers import REVOKED
from maesh_core.proxy.http.transports import FULL_READ_BYTES, TURN_READS
from maesh_core.settings import CarryingSettings

UPGRADE = b"GET / HTTP/1.1\r\nHost: a.test.maesh\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
SWITCHING = b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"


async def open_tunnel(world):
    client = world.open_client()
    client.send(UPGRADE)
    server = await world.accept()
    server.take()
    server.send(SWITCHING)
    client.expect(SWITCHING)
    return client, server


def give_metrics(world):
    return {metric.name: dict(metric.samples) for metric in world.handler.collect_metrics()}


@pytest.mark.parametrize("is_client_slow", [False, True])
async def test_a_slow_side_stops_the_other_and_no_third(world, is_client_slow):
    slow, fast = (await open_tunnel(world))[:: 1 if is_client_slow else -1]
    slow.stop_taking()
    assert not fast.transport.is_reading
    assert slow.transport.is_reading
    slow.send(b"a")
    fast.expect(b"a")
    slow.take_again()
    assert fast.transport.is_reading
    fast.send(b"b")
    slow.expect(b"b")


async def test_a_side_that_was_slow_before_the_tunnel_is_slow_in_it(world):
    client = world.open_client()
    client.send(UPGRADE + b"x" * 70_000)
    assert not client.transport.is_reading
    server = await world.accept()
    client.stop_taking()
    server.stop_taking()
    server.transport.is_reading = True  # what was read before it was paused
    server.send(SWITCHING)
    assert not client.transport.is_reading
    client.take_again()
    assert server.transport.is_reading
    server.take_again()
    assert client.transport.is_reading
    assert server.take().endswith(b"x" * 70_000)


@pytest.mark.parametrize("is_client_first", [False, True])
async def test_each_side_may_end_its_half(world, is_client_first):
    first, second = (await open_tunnel(world))[:: 1 if is_client_first else -1]
    first.end()
    assert second.transport.has_ended
    assert not first.is_closed
    second.send(b"more")
    first.expect(b"more")
    second.end()
    assert first.is_closed
    assert second.is_closed
    assert not first.transport.is_aborted
    await world.settle()
    assert world.handler.is_drained()


@pytest.mark.parametrize("is_client", [False, True])
async def test_a_side_that_breaks_breaks_the_other(world, is_client):
    broken, other = (await open_tunnel(world))[:: 1 if is_client else -1]
    broken.lose(ConnectionResetError())
    assert other.transport.is_reset
    await world.settle()
    assert not world.handler.environment.tunnels
    assert world.handler.current.table.counters["a"].statuses.by_status == {101: 1}


async def test_a_tunnel_lies_idle_for_as_long_as_it_likes(world):
    client, server = await open_tunnel(world)
    world.advance(100_000.0)
    client.send(b"a")
    server.expect(b"a")


async def test_a_tunnel_may_have_a_limit_to_idling_and_any_byte_begins_it_anew(open_world):
    async with open_world(settings=CarryingSettings(tunnel_timeout=10.0)) as world:
        client, server = await open_tunnel(world)
        for sender, taker in ((client, server), (server, client)):
            world.advance(9.0)
            sender.send(b"a")
            taker.expect(b"a")
        world.advance(9.0)
        assert not client.is_closed
        world.advance(1.0)
        assert client.is_closed
        assert server.is_closed
        assert not client.transport.is_aborted


async def test_a_side_that_does_not_take_the_rest_is_cut_in_time(world):
    client, server = await open_tunnel(world)
    client.stop_taking(1000)
    server.lose()
    assert client.is_closed
    client.transport.unsent_bytes = 1
    world.advance(60.0)
    assert not client.transport.is_aborted
    world.advance(60.0)
    assert client.transport.is_reset
    await world.settle()
    assert not world.handler.environment.tunnels


async def test_tunnels_are_counted_and_awaited_in_draining_and_cut_in_the_end(open_world):
    async with open_world(settings=CarryingSettings(node="node", connection_limit=2)) as world:
        client, server = await open_tunnel(world)
        assert give_metrics(world)["maesh_http_tunnels"] == {(): 1}
        busy = world.open_client()
        busy.send(UPGRADE)
        assert world.open_client().is_closed
        world.handler.start_draining()
        await world.settle()
        assert not client.is_closed
        assert not world.handler.is_drained()
        assert world.handler.count_under_way() == 2
        client.send(b"a")
        server.expect(b"a")
        world.handler.abort()
        assert client.transport.is_reset
        assert server.transport.is_reset
        await world.settle()
        assert world.handler.is_drained()
        assert give_metrics(world)["maesh_http_tunnels"] == {(): 0}


async def test_a_tunnel_counts_for_its_client_until_it_ends(open_world):
    async with open_world(settings=CarryingSettings(node="node", client_connection_limit=1)) as world:
        client, server = await open_tunnel(world)
        assert world.open_client().is_closed
        client.lose()
        await world.settle()
        assert server.is_closed
        assert not world.open_client().is_closed


async def test_a_tunnel_is_never_closed_for_a_new_client(open_world):
    async with open_world(settings=CarryingSettings(node="node", connection_limit=1)) as world:
        client, _ = await open_tunnel(world)
        world.advance(3600.0)
        assert world.open_client().is_closed
        assert not client.is_closed


async def test_a_tunnel_outlives_its_route(world):
    client, server = await open_tunnel(world)
    world.apply(servers=0)
    client.send(b"a")
    server.expect(b"a")


class Gate:
    """Lets tunnels stay, or not, or cannot say."""

    def __init__(self, answer=True):
        self.answer = answer
        self.seen = []

    def is_still_allowed(self, connection):
        self.seen.append((connection.exchange.target, connection.client_address, connection.service))
        if self.answer is None:
            raise LookupError("who is this?")
        return self.answer


async def test_a_tunnel_stays_where_its_route_is_the_same_and_is_judged_where_it_is_another(world):
    kept, judging = Gate(), Gate()
    world.apply(middlewares=[kept])
    client, server = await open_tunnel(world)
    world.apply(middlewares=[judging])
    assert (kept.seen, judging.seen) == ([], [(b"/", "10.0.0.9", "a")])
    client.send(b"still here")
    server.expect(b"still here")


@pytest.mark.parametrize("answer", [False, None])
async def test_a_tunnel_that_may_not_stay_is_reset_on_both_sides(world, answer):
    client, server = await open_tunnel(world)
    world.apply(middlewares=[Gate(answer)])
    await world.settle()
    assert client.transport.is_reset
    assert server.transport.is_reset


@pytest.mark.parametrize("middlewares", [[], [Gate()]])
async def test_a_tunnel_whose_host_is_gone_goes_on_unless_somebody_had_let_it_in(world, middlewares):
    world.apply(middlewares=middlewares)
    client, _ = await open_tunnel(world)
    world.handler.apply_table(world.handler.compile_table(Section(), middlewares={}, changed=None))
    await world.settle()
    assert client.is_closed == bool(middlewares)


async def test_a_tunnel_that_is_made_after_it_was_forbidden_is_cut(world):
    client = world.open_client()
    client.send(UPGRADE)
    server = await world.accept()
    world.apply(middlewares=[Gate(False)])
    server.send(SWITCHING)
    await world.settle()
    assert client.transport.is_reset


@pytest.mark.parametrize("is_client", [False, True])
async def test_a_fast_side_leaves_the_loop_to_others_after_a_few_full_reads(world, is_client):
    fast, other = (await open_tunnel(world))[:: 1 if is_client else -1]
    read = b"x" * FULL_READ_BYTES
    for _ in range(TURN_READS):
        assert fast.transport.is_reading
        fast.send(read)
    assert not fast.transport.is_reading
    other.expect(read * TURN_READS)
    other.stop_taking()
    await world.settle()
    assert not fast.transport.is_reading
    other.take_again()
    assert fast.transport.is_reading


async def end_by_idling(world, client, server):
    world.advance(31.0)


async def end_by_denial(world, client, server):
    world.apply(middlewares=[Gate(False)])


async def end_by_removed_route(world, client, server):
    world.handler.apply_table(world.handler.compile_table(Section(), middlewares={}, changed=None))


async def end_by_the_proxy_s_end(world, client, server):
    world.handler.abort()


async def end_by_reset(world, client, server):
    server.lose(ConnectionResetError())


async def end_by_close(world, client, server):
    server.lose()


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (end_by_idling, IDLE),
        (end_by_denial, REVOKED.reason),
        (end_by_removed_route, ROUTE_REMOVED),
        (end_by_the_proxy_s_end, PROXY_ENDED),
        (end_by_reset, CUT),
        (end_by_close, ""),
    ],
)
async def test_the_record_of_a_tunnel_says_why_it_ended(open_world, observe, end, reason):
    async with open_world(middlewares=[Gate()], settings=CarryingSettings(node="node", tunnel_timeout=30.0)) as world:
        observed = observe(world)
        client, server = await open_tunnel(world)
        await end(world, client, server)
        await world.settle()
        (record,) = observed.records
        assert (record.kind, record.status, record.reason) == ("tunnel", 101, reason)
