"""Datagrams that begin no session have records, of which there is a limit for each second."""

import asyncio

import pytest
from maesh_udp.proxy import SWEEP_S
from maesh_udp.refusals import NO_SERVER, RECORDS_PER_S

from maesh_core.plugin import DENIED, UNROUTED

KEY, ENTRYPOINT = "test/dns:53", 15000


class Closed:
    def on_connect(self, connection):
        return False


def read(record):
    names = ("kind", "client", "service", "destination", "server", "attempts", "reason", "received_bytes")
    return {name: getattr(record, name) for name in (*names, "sent_bytes", "entrypoint", "protocol")}


def count_refused(world):
    return sum(map(world.count, ("denied_sessions", "refused_sessions", "unrouted_datagrams")))


async def send(world, count=1):
    """Send datagrams from clients of their own, and wait until they are refused."""
    port, wanted = world.listeners[0]._sock.getsockname()[1], count_refused(world) + count
    while count:
        count -= 1
        world.open().sendto(b"question", ("127.0.0.1", port))
        await asyncio.sleep(0)
    while count_refused(world) < wanted:  # noqa: ASYNC110
        await asyncio.sleep(0)


WANTED = {
    "kind": "udp",
    "client": "127.0.0.1",
    "service": KEY,
    "destination": KEY,
    "server": "",
    "attempts": 0,
    "received_bytes": 8,
    "sent_bytes": 0,
    "entrypoint": ENTRYPOINT,
    "protocol": "UDP",
}


@pytest.mark.parametrize(
    ("servers", "middlewares", "reason", "counter"),
    [(("blue",), [Closed()], DENIED, "denied_sessions"), ((), None, NO_SERVER, "refused_sessions")],
)
async def test_a_datagram_that_begins_no_session_has_a_record(world, servers, middlewares, reason, counter):
    await world.listen()
    world.serve(*servers, middlewares=middlewares)
    await send(world)
    assert [read(each) for each in world.node.records] == [{**WANTED, "reason": reason}]
    assert world.count(counter) == 1
    assert world.count("sessions") == 0


async def test_a_datagram_to_an_entrypoint_without_a_route_is_refused(world):
    await world.listen()
    await send(world)
    nothing = {"kind": "refused", "service": "", "destination": "", "reason": UNROUTED}
    assert [read(each) for each in world.node.records] == [{**WANTED, **nothing}]
    assert world.count("unrouted_datagrams") == 1


async def test_nothing_is_built_or_counted_without_an_observer(world):
    await world.listen()
    world.node.is_observed = False
    await send(world, RECORDS_PER_S + 1)
    assert (world.node.records, world.count("unrecorded_datagrams")) == ([], 0)


async def test_a_flood_has_a_limited_number_of_records_in_a_second_and_the_others_are_counted(world):
    await world.listen()
    world.serve("blue", middlewares=[Closed()])
    await send(world, RECORDS_PER_S + 7)
    assert len(world.node.records) == RECORDS_PER_S
    assert world.count("unrecorded_datagrams") == 7
    world.node.pass_time(SWEEP_S)
    await send(world)
    assert len(world.node.records) == RECORDS_PER_S + 1
    assert world.count("denied_sessions") == RECORDS_PER_S + 8
