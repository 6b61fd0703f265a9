"""Reports that are shared, cached and bounded in their share of the time."""

import asyncio

import pytest

from maesh_core.controller.traffic import wanted_metrics as metrics
from maesh_core.controller.traffic.gathering import Measurement, TrafficGatherer, select_services
from maesh_core.controller.traffic.report import PORT_EFFORT, STEP
from maesh_core.controller.traffic.sums import TrafficSums
from maesh_core.controller.traffic.wanted_metrics import Scope
from maesh_core.errors import TrafficUnavailableError
from maesh_core.model.traffic import MissingController, NodeTraffic

from .measured import SERVICES, WEB, build_service, build_snapshot, count, since_start, work_at_once


class Source:
    """Measures three requests; or raises, or waits, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.is_closed = False

    async def measure(self, scope: Scope) -> Measurement:
        self.asked += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        sums = TrafficSums(scope)
        traffic = since_start(
            count(metrics.REQUESTS, {(WEB, "2xx"): 3.0}, "service", "code"),
            count(metrics.REFUSED, {("404",): 2.0}, "code"),
        )
        work_at_once(sums.add(traffic))
        return Measurement(sums, (NodeTraffic(name="node-1"),), (MissingController(name="c-2", error="gone"),))

    async def close(self) -> None:
        self.is_closed = True


class Mesh:
    """The services of a test."""

    services = SERVICES
    objects = build_snapshot()

    def list_described(self):
        return self.services


class Gathering:
    """A gatherer, in a time that the test moves."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.source, self.mesh = Source(), Mesh()
        self.gatherer = TrafficGatherer(self.mesh, self.source, clock=lambda: self.now_s, wall_clock=lambda: 1.5)


@pytest.fixture
async def gathering():
    gathering = Gathering()
    yield gathering
    await gathering.gatherer.close()
    assert gathering.source.is_closed


async def test_a_report_has_the_sums_the_nodes_and_the_time(gathering):
    report = await gathering.gatherer.report()
    assert (report.at, report.interval_s) == ("1970-01-01T00:00:01.500Z", 30.0)
    assert [node.name for node in report.nodes] == ["node-1"]
    assert [(each.name, each.error) for each in report.missing] == [("c-2", "gone")]
    assert report.refused == {"404": 2}
    assert {each.key: each.total.requests for each in report.services}[WEB] == 3


async def test_a_report_is_shared_and_used_for_a_second(gathering):
    first, other = await asyncio.gather(gathering.gatherer.report(), gathering.gatherer.report())
    assert first is other
    gathering.now_s = 0.9
    assert await gathering.gatherer.report() is first
    gathering.now_s = 1.0
    assert await gathering.gatherer.report() is not first


async def test_an_error_of_the_source_is_raised(gathering):
    gathering.source.error = TrafficUnavailableError("broken")
    with pytest.raises(TrafficUnavailableError, match="broken"):
        await gathering.gatherer.report()


async def test_closing_ends_the_work(gathering):
    gathering.source.gate.clear()
    waiting = asyncio.create_task(gathering.gatherer.report())
    await asyncio.sleep(0)
    await gathering.gatherer.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_the_work_on_many_services_leaves_turns_to_others(gathering):
    gathering.mesh.services = [build_service(f"s{number}", 80) for number in range(10 * STEP // PORT_EFFORT)]
    turns = 0

    async def take_turns():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    others = asyncio.create_task(take_turns())
    report = await gathering.gatherer.report()
    others.cancel()
    assert len(report.services) == 10 * STEP // PORT_EFFORT
    assert turns >= 10


async def test_one_service_or_port_can_be_selected(gathering):
    report = await gathering.gatherer.report()
    assert [each.key for each in select_services(report, "shop", "web").services] == [WEB]
    assert select_services(report, "shop", "web", "81").services == ()
    assert select_services(report, "shop", "web", "80").nodes == report.nodes
