"""Slots filled with processes that are no processes: who is replaced, when, and what ends the node."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from maesh_core.errors import StartupError
from maesh_core.model.metrics import MetricFamily
from maesh_core.proxy.workers import pool as pool_module
from maesh_core.proxy.workers.channel import Channel
from maesh_core.proxy.workers.link import WorkerGoneError, WorkerLink
from maesh_core.proxy.workers.messages import (
    AnyOrder,
    ApplyUpdate,
    Collect,
    CollectReport,
    Counted,
    Done,
    Drain,
    Draining,
    NotStarted,
    Started,
)
from maesh_core.proxy.workers.pool import STEADY_S, WorkerPool


class FakeProcess:
    """A worker that answers what it is told to, until it is ended."""

    def __init__(self, world: "World", pid: int) -> None:
        self.world = world
        self.pid = pid
        self.socket, theirs = socket.socketpair()
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.orders: list[AnyOrder] = []
        self.count = 0
        self.is_deaf = False
        self.signals: list[int] = []
        self.waiting: dict[str, int] = {}
        self.channel: Channel[AnyOrder] = Channel(
            theirs, AnyOrder, on_message=self.on_order, on_closed=lambda reason: self.end(0)
        )

    def on_order(self, order: AnyOrder, payload: bytes, descriptors: Any) -> None:
        self.orders.append(order)
        if self.is_deaf:
            return
        if isinstance(order, Collect):
            family = MetricFamily(name="c", type="counter", help="h", samples=(((), self.count),))
            self.channel.send(Counted(number=order.number, families=[family]))
        elif isinstance(order, Drain):
            if self.waiting:
                self.channel.send(Draining(waiting=self.waiting))
            if not self.world.drains_for_ever:
                self.end(0)
        else:
            self.channel.send(Done(number=order.number))

    def end(self, status: int) -> None:
        if not self.ended.done():
            self.ended.set_result(status)
        self.channel.close()

    async def wait(self) -> int:
        return await asyncio.shield(self.ended)

    def kill(self) -> None:
        self.end(-9)

    def send_signal(self, number: int) -> None:
        self.signals.append(number)


class World:
    """A pool of fake processes, on a clock that only pauses move."""

    def __init__(self, size: int = 2) -> None:
        self.processes: list[FakeProcess] = []
        self.pauses: list[float] = []
        self.now_s = 0.0
        self.first_words: list[Any] = []
        self.refusal = ""
        self.drains_for_ever = False
        self.changed = asyncio.Event()
        self.pool = WorkerPool(self.spawn, self.introduce, size=size, pause=self.pause, clock=lambda: self.now_s)
        self.task: asyncio.Task[None] | None = None

    async def spawn(self, slot: int) -> FakeProcess:
        process = FakeProcess(self, len(self.processes) + 1)
        self.processes.append(process)
        word = self.first_words.pop(0) if self.first_words else Started()
        if isinstance(word, int):
            process.end(word)
        else:
            process.channel.send(word)
            if isinstance(word, NotStarted):
                process.end(1)
        self.changed.set()
        return process

    async def introduce(self, link: WorkerLink) -> None:
        if self.refusal:
            raise ValueError(self.refusal)
        self.pool.join(link)
        self.changed.set()

    async def pause(self, delay_s: float) -> None:
        self.pauses.append(delay_s)
        await asyncio.sleep(0)

    def start(self) -> "asyncio.Task[None]":
        self.task = asyncio.create_task(self.pool.run())
        return self.task

    async def wait_until(self, condition: Any) -> None:
        while not condition():
            self.changed.clear()
            waiting = asyncio.ensure_future(self.changed.wait())
            await asyncio.wait([waiting, asyncio.ensure_future(asyncio.sleep(0))], return_when="FIRST_COMPLETED")
            waiting.cancel()

    async def wait_joined(self, *pids: int) -> None:
        await self.wait_until(lambda: [link.pid for link in self.pool.joined] == list(pids))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.pool.close()
    if world.task is not None:
        world.task.cancel()
        await asyncio.gather(world.task, return_exceptions=True)


async def test_every_slot_is_filled_and_joined(world: World) -> None:
    world.start()
    await world.wait_joined(1, 2)
    assert world.pool.has_been_full
    assert world.pool.restarts == 0


async def test_one_that_dies_is_replaced_in_its_slot_and_its_siblings_stay(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.start()
    await world.wait_joined(1, 2)
    world.now_s = STEADY_S
    world.processes[0].end(-9)
    await world.wait_joined(3, 2)
    assert (world.pool.restarts, world.pauses) == (1, [])
    await world.wait_until(lambda: len(caplog.messages) == 2)
    assert caplog.messages == ["replacing worker 0: it ended with signal SIGKILL", "worker 0 routes traffic again"]


async def test_those_that_die_at_once_are_replaced_with_growing_pauses(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.start()
    await world.wait_joined(1, 2)
    world.first_words = [-11] * 5
    world.processes[0].end(1)
    await world.wait_joined(8, 2)
    assert len(world.pauses) == 6
    assert world.pauses[-1] > 4 * world.pauses[0]
    assert "replacing worker 0: it ended with status 1" in caplog.text
    assert "it ended with signal SIGSEGV" in caplog.text


async def test_one_that_says_it_cannot_start_ends_the_node_with_its_words(world: World) -> None:
    world.first_words = [NotStarted(text="plugin x: no")] * 2
    with pytest.raises(StartupError, match=r"^plugin x: no$"):
        await world.start()


async def test_one_that_dies_before_any_could_start_ends_the_node(world: World) -> None:
    world.first_words = [-11, -11]
    with pytest.raises(StartupError, match="no worker could start: it ended with signal SIGSEGV"):
        await world.start()


async def test_one_that_cannot_start_later_is_tried_again(world: World) -> None:
    world.start()
    await world.wait_joined(1, 2)
    world.first_words = [NotStarted(text="plugin x: no")]
    world.processes[1].end(1)
    await world.wait_joined(1, 4)


async def test_one_that_refuses_what_is_in_force_is_killed_and_tried_again(world: World) -> None:
    world.refusal = "it refused"
    world.start()
    await world.wait_until(lambda: len(world.processes) > 3)
    assert world.pool.joined == []
    assert world.processes[0].ended.result() == -9
    world.refusal = ""
    await world.wait_until(lambda: len(world.pool.joined) == 2)


async def test_an_order_reaches_all_and_one_that_dies_over_it_is_left_out(world: World) -> None:
    world.start()
    await world.wait_joined(1, 2)
    world.processes[0].is_deaf = True
    asking = asyncio.create_task(world.pool.ask_all(ApplyUpdate(since=None)))
    await world.wait_until(lambda: any(isinstance(each, ApplyUpdate) for each in world.processes[0].orders))
    world.processes[0].end(-9)
    answers = await asking
    assert [link.pid for link in answers] == [2]


async def test_a_signal_is_passed_on_to_those_that_have_joined(world: World) -> None:
    world.pool.send_signal(10)
    world.start()
    await world.wait_joined(1, 2)
    world.pool.send_signal(10)
    assert [process.signals for process in world.processes] == [[10], [10]]


async def test_one_that_does_not_answer_is_killed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.start()
    await world.wait_joined(1, 2)
    world.processes[0].is_deaf = True
    with monkeypatch.context() as shortly:  # its successor has the usual time
        shortly.setattr(pool_module, "ANSWER_LIMIT_S", 0.01)
        with pytest.raises(WorkerGoneError):
            await world.pool.ask(world.pool.joined[0], ApplyUpdate(since=None))
    assert world.processes[0].ended.result() == -9
    await world.wait_joined(3, 2)


async def test_counters_do_not_go_backwards_when_a_worker_dies(world: World) -> None:
    def read() -> float:
        (family,) = world.pool.collect_metrics()
        (sample,) = family.samples
        return sample[1]  # type: ignore[return-value]

    world.start()
    await world.wait_joined(1, 2)
    world.processes[0].count, world.processes[1].count = 10, 5
    await world.pool.collect(5)
    assert read() == 15
    world.processes[0].end(-9)
    await world.wait_joined(3, 2)
    assert read() == 15
    world.processes[2].count = 1
    await world.pool.collect(5)
    assert read() == 16


async def test_a_scrape_does_not_wait_for_one_that_is_slow(world: World) -> None:
    world.start()
    await world.wait_joined(1, 2)
    world.processes[0].is_deaf = True
    await world.pool.collect(0.01)
    assert not world.processes[0].ended.done()


async def test_those_that_do_not_report_in_time_have_no_report(world: World) -> None:
    world.start()
    await world.wait_joined(1, 2)
    world.processes[0].is_deaf = True
    answers = await world.pool.ask_in_time(CollectReport(name="denials"), 3)
    assert [type(answer) for answer in answers] == [type(None), Done]
    assert not world.processes[0].ended.done()


async def test_a_drain_lets_every_worker_end_and_replaces_none(world: World) -> None:
    task = world.start()
    await world.wait_joined(1, 2)
    await world.pool.drain(asyncio.Event().wait(), 30)
    await task
    assert [process.ended.result() for process in world.processes] == [0, 0]
    assert all(isinstance(process.orders[-1], Drain) for process in world.processes)
    assert world.pool.restarts == 0


async def test_a_drain_reports_once_what_all_workers_wait_for(world: World) -> None:
    world.drains_for_ever = True
    task = world.start()
    await world.wait_joined(1, 2)
    world.processes[0].waiting, world.processes[1].waiting = {"http": 2}, {"http": 1, "udp": 4}
    told: list[Mapping[str, int]] = []
    forced = asyncio.Event()

    def tell(waiting: Mapping[str, int]) -> None:
        told.append(dict(waiting))
        forced.set()

    await world.pool.drain(forced.wait(), 30, on_waiting=tell)
    await task
    assert told == [{"http": 3, "udp": 4}]


async def test_a_drain_that_waits_for_nothing_reports_nothing(world: World) -> None:
    task = world.start()
    await world.wait_joined(1, 2)
    told: list[Mapping[str, int]] = []
    await world.pool.drain(asyncio.Event().wait(), 30, on_waiting=told.append)
    await task
    assert told == []


async def test_a_worker_that_does_not_say_what_it_waits_for_holds_up_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maesh_core.proxy.workers.pool.WAITING_LIMIT_S", 3)  # what the other worker has at most
    world.drains_for_ever = True
    task = world.start()
    await world.wait_joined(1, 2)
    world.processes[0].waiting, world.processes[1].is_deaf = {"tcp": 1}, True
    told: list[Mapping[str, int]] = []
    forced = asyncio.Event()

    def tell(waiting: Mapping[str, int]) -> None:
        told.append(dict(waiting))
        forced.set()

    await world.pool.drain(forced.wait(), 30, on_waiting=tell)
    await task
    assert told == [{"tcp": 1}]


@pytest.mark.parametrize("limit_s", [0.01, 30])
async def test_a_drain_is_cut_at_its_limit_or_when_forced(world: World, limit_s: float) -> None:
    world.drains_for_ever = True
    task = world.start()
    await world.wait_joined(1, 2)
    forced = asyncio.Event()
    if limit_s == 30:
        forced.set()
    await world.pool.drain(forced.wait(), limit_s)
    await task
    assert len(world.processes) == 2
