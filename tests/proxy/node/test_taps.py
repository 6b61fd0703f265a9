"""Taps of a node: each viewer gets the lines of its own tap, from all workers, until it leaves."""

import asyncio
import json
from typing import Any, cast

import pytest

from maesh_core.model.tap import TapFilter, TappedRecord
from maesh_core.proxy.node.taps import CLIENT_TAPS_LIMIT, RATE, TAPS_LIMIT, NodeTaps, TooManyTapsError
from maesh_core.proxy.workers.messages import StartTap, StopTap, Tapped
from maesh_core.proxy.workers.pool import WorkerPool

from .in_process_proxy import World

RECORD = TappedRecord(kind="http", started_at=1.0, duration_s=0.1, client="10.0.0.1", path="/a")


class FakeLink:
    """A worker that keeps its orders."""

    def __init__(self) -> None:
        self.orders: list[Any] = []

    def send(self, order: Any) -> None:
        self.orders.append(order)


class FakePool:
    """Joined workers."""

    def __init__(self, *links: FakeLink) -> None:
        self.joined = links
        self.on_tapped: Any = None


@pytest.fixture
def pool() -> FakePool:
    return FakePool(FakeLink(), FakeLink())


@pytest.fixture
def taps(pool: FakePool) -> NodeTaps:
    return NodeTaps(cast("WorkerPool", pool))


def read(part: bytes) -> list[Any]:
    return [json.loads(line) for line in part.splitlines()]


async def test_a_viewer_gets_the_records_of_its_tap_until_it_leaves(pool: FakePool, taps: NodeTaps) -> None:
    stream, other = taps.open(b"path=%2Fa&status=5xx", "1.1.1.1"), taps.open(b"", "1.1.1.1")
    first = StartTap(tap=1, filter=TapFilter(path="/a", statuses=((500, 599),)), rate=RATE)
    assert [link.orders for link in pool.joined] == [[first, StartTap(tap=2, filter=TapFilter(), rate=RATE)]] * 2
    pool.on_tapped(Tapped(tap=1, records=[RECORD], dropped=3))
    pool.on_tapped(Tapped(tap=7, records=[RECORD], dropped=0))
    record, dropped = read(await stream.__anext__())
    assert (record["path"], dropped) == ("/a", {"dropped": 3})
    stream.close()
    assert [link.orders[2:] for link in pool.joined] == [[StopTap(tap=1)]] * 2
    pool.on_tapped(Tapped(tap=1, records=[RECORD], dropped=0))
    pool.on_tapped(Tapped(tap=2, records=[RECORD], dropped=0))
    assert len(read(await other.__anext__())) == 1


async def test_a_new_worker_gets_the_active_taps(taps: NodeTaps) -> None:
    taps.open(b"", "1.1.1.1").close()
    taps.open(b"", "1.1.1.1")
    link = FakeLink()
    taps.introduce(cast("Any", link))
    assert [order.tap for order in link.orders] == [2]


async def test_bad_parameters_and_too_many_taps_are_refused(pool: FakePool, taps: NodeTaps) -> None:
    with pytest.raises(ValueError, match="status must be like"):
        taps.open(b"status=wrong", "1.1.1.1")
    assert pool.joined[0].orders == []
    streams = [taps.open(b"", f"1.1.1.{number}") for number in range(TAPS_LIMIT)]
    with pytest.raises(TooManyTapsError):
        taps.open(b"", "1.1.2.1")
    streams[0].close()
    taps.open(b"", "1.1.2.1")


async def test_one_client_leaves_taps_to_others(taps: NodeTaps) -> None:
    for _ in range(CLIENT_TAPS_LIMIT):
        taps.open(b"", "1.1.1.1")
    with pytest.raises(TooManyTapsError):
        taps.open(b"", "1.1.1.1")
    taps.open(b"", "1.1.1.2")


async def test_closing_ends_the_streams(taps: NodeTaps) -> None:
    stream = taps.open(b"", "1.1.1.1")
    taps.close()
    with pytest.raises(StopAsyncIteration):
        await stream.__anext__()


async def test_the_admin_port_shows_live_traffic_also_of_a_worker_that_was_replaced(world: World) -> None:
    world.tell()
    world.start()
    await world.wait_for("/ready", 200)
    reader, writer = await asyncio.open_connection("127.0.0.1", world.admin)
    writer.write(b"GET /tap?path=/shown HTTP/1.1\r\nHost: node\r\n\r\n")
    assert b"chunked" in await reader.readuntil(b"\r\n\r\n")
    for _ in range(2):
        for path in ("/hidden", "/shown?query"):
            assert (await world.get(world.entrypoint, path))[0] == 200
        line = b""
        while not line.startswith(b"{"):
            line = await reader.readline()
        record = json.loads(line)
        assert (record["path"], record["status"], record["client"]) == ("/shown", 200, "127.0.0.1")
        count = len(world.workers)
        world.workers[-1].kill()
        while len(world.workers) == count:  # noqa: ASYNC110 - the pool has to notice it
            await asyncio.sleep(0)
        await world.wait_for("/ready", 200)
    writer.close()
