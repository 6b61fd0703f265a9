"""Taps in a worker: what they send, what they drop, and that nothing is left when nobody watches."""

import asyncio
from typing import Any

import pytest

from maesh_core.model.tap import TapFilter
from maesh_core.model.traffic_record import HTTP, build_record
from maesh_core.proxy.observers import Observers
from maesh_core.proxy.worker import taps as taps_module
from maesh_core.proxy.worker.taps import TAPS_LIMIT, WorkerTaps
from maesh_core.proxy.workers.messages import StartTap, Tapped


class World:
    """The observers of a worker, its taps, and what they send."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.is_blocked = False
        self.sent: list[Tapped] = []
        self.observers = Observers()
        self.taps = WorkerTaps(
            self.observers, self.sent.append, has_unsent=lambda: self.is_blocked, clock=lambda: self.now_s
        )

    def start(self, number: int = 1, *, rate: int = 100, **chosen: Any) -> None:
        self.taps.start(StartTap(tap=number, filter=TapFilter(**chosen), rate=rate))

    def observe(self, *paths: bytes) -> None:
        for path in paths:
            record = build_record(
                HTTP, started_at=1.0, duration_s=0.1, client="10.0.0.1", entrypoint=5000, protocol="HTTP/1.1",
                service="shop/web:80", status=200, method=b"GET", target=path,
            )  # fmt: skip
            self.observers.observe(record)

    async def wait_sent(self, count: int) -> list[tuple[int, list[str], int]]:
        while len(self.sent) < count:  # noqa: ASYNC110 - batches have no event
            await asyncio.sleep(0)
        return [(each.tap, [record.path for record in each.records], each.dropped) for each in self.sent]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(taps_module, "BATCH_S", 0.001)
    return World()


async def test_records_that_pass_the_filter_are_sent_in_batches(world: World) -> None:
    world.start(path="/a")
    world.observe(b"/a1", b"/b", b"/a2")
    assert await world.wait_sent(1) == [(1, ["/a1", "/a2"], 0)]
    world.observe(b"/b")
    world.observe(b"/a3")
    assert (await world.wait_sent(2))[1:] == [(1, ["/a3"], 0)]


async def test_above_the_rate_records_are_counted_until_the_next_second(world: World) -> None:
    world.start(rate=2)
    world.observe(b"/1", b"/2", b"/3", b"/4")
    assert await world.wait_sent(1) == [(1, ["/1", "/2"], 2)]
    world.observe(b"/5")
    world.now_s = 1.0
    world.observe(b"/6")
    assert (await world.wait_sent(2))[1:] == [(1, ["/6"], 1)]


async def test_while_the_parent_does_not_read_batches_are_dropped_and_counted(world: World) -> None:
    world.start()
    world.is_blocked = True
    world.observe(b"/1", b"/2")
    world.taps.flush()
    assert world.sent == []
    world.is_blocked = False
    world.observe(b"/3")
    assert await world.wait_sent(1) == [(1, ["/3"], 2)]


async def test_several_taps_are_independent_and_a_repeated_order_changes_nothing(world: World) -> None:
    world.start(1, path="/a")
    world.start(2, path="/b")
    world.start(2, path="/a")
    world.observe(b"/a", b"/b")
    world.taps.flush()
    assert await world.wait_sent(2) == [(1, ["/a"], 0), (2, ["/b"], 0)]


async def test_nothing_observes_traffic_before_the_first_tap_and_after_the_last(world: World) -> None:
    assert not world.observers.is_active
    world.start()
    assert world.observers.is_active
    world.observe(b"/1")
    world.taps.stop(1)
    world.taps.stop(1)
    assert not world.observers.is_active
    world.taps.flush()
    assert world.sent == []


async def test_the_number_of_taps_is_limited(world: World) -> None:
    for number in range(TAPS_LIMIT + 1):
        world.start(number)
    world.observe(b"/1")
    world.taps.flush()
    assert [each.tap for each in world.sent] == list(range(TAPS_LIMIT))


async def test_the_end_of_the_worker_sends_the_last_records(world: World) -> None:
    world.start()
    world.observe(b"/1")
    world.observers.close()
    assert await world.wait_sent(1) == [(1, ["/1"], 0)]
