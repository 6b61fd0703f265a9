"""Services of plugins in a controller: kept running, and shown the controller."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from maesh_core.controller.services import (
    EMPTY_TOPOLOGY,
    STEADY_S,
    ControllerHost,
    keep_running,
    list_collectors,
    prepare_services,
)
from maesh_core.errors import ConfigurationError, StartupError
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Pod
from maesh_core.settings import ControllerSettings


class Stop(BaseException):
    """Ends a test."""


class Service:
    name = "counting"

    def __init__(self, results):
        self.results = list(results)

    async def run(self):
        result = self.results.pop(0)
        if result is not None:
            raise result


async def test_a_service_that_fails_or_ends_is_started_again_after_growing_pauses(caplog):
    pauses = []

    async def pause(seconds):
        pauses.append(seconds)

    service = Service([ValueError("no disk"), None, Stop()])
    with pytest.raises(Stop):
        await keep_running(service, pause=pause, clock=lambda: 0.0)
    assert [record.getMessage().partition(";")[0] for record in caplog.records if record.levelname == "ERROR"] == [
        "service counting failed: ValueError: no disk",
        "service counting ended",
    ]
    assert 0.5 <= pauses[0] <= 1 <= pauses[1] <= 2


async def test_after_a_steady_run_the_pauses_begin_again():
    pauses, now = [], [0.0]

    async def pause(seconds):
        pauses.append(seconds)

    class Steady(Service):
        async def run(self):
            now[0] += STEADY_S
            await super().run()

    with pytest.raises(Stop):
        await keep_running(Steady([None, None, None, Stop()]), pause=pause, clock=lambda: now[0])
    assert max(pauses) <= 1


def test_services_without_metrics_have_no_collector():
    def collect():
        return []

    services: list[Any] = [Service([]), SimpleNamespace(name="a", run=None, collect_metrics=collect)]
    assert list_collectors(services) == [collect]


async def test_a_controller_without_a_cluster_may_always_write():
    host = ControllerHost(ControllerSettings(), "here")
    assert host.is_leader
    assert host.find_pod(ObjectKey("maesh", "proxy")) is None
    assert host.render_topology() == EMPTY_TOPOLOGY
    assert host.list_services() == ()
    await host.close()


def test_in_a_cluster_the_elected_controller_may_write():
    cluster: Any = SimpleNamespace()
    host = ControllerHost(ControllerSettings(), "here", cluster=cluster)
    assert not host.is_leader
    election = SimpleNamespace(is_leader=False)
    pod = object()
    objects = SimpleNamespace(get=lambda _, key: pod if key.name == "proxy" else None)
    engine: Any = SimpleNamespace(objects=objects, render_topology=lambda: b"{}")
    membership: Any = SimpleNamespace(election=election)
    host.attach(engine, membership)
    assert not host.is_leader
    election.is_leader = True
    assert host.is_leader
    assert host.find_pod(ObjectKey("maesh", "proxy")) is pod
    assert host.render_topology() == b"{}"


def test_a_problem_is_shown_until_it_is_over():
    host = ControllerHost(ControllerSettings(), "here")
    host.report("disk", "it is full")
    assert host.problems == {"disk": "it is full"}
    host.report("disk", None)
    host.report("disk", None)
    assert host.problems == {}


async def test_a_service_can_be_cancelled():
    class Endless(Service):
        async def run(self):
            await asyncio.Event().wait()

    task = asyncio.create_task(keep_running(Endless([])))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class Prepared(Service):
    def __init__(self, error=None):
        super().__init__([])
        self.error, self.is_prepared = error, False

    async def prepare(self):
        self.is_prepared = True
        if self.error is not None:
            raise self.error


async def test_services_are_prepared_before_the_first_build():
    prepared = Prepared()
    await prepare_services([Service([]), prepared])
    assert prepared.is_prepared


async def test_a_service_that_cannot_be_prepared_stops_the_start():
    with pytest.raises(StartupError, match="counting: no disk"):
        await prepare_services([Prepared(ConfigurationError("no disk"))])


async def test_reports_of_proxies_are_gathered_once_the_proxies_are_known():
    host: Any = ControllerHost(ControllerSettings(), "one")
    found: list[str] = []
    assert await host.gather_reports("denials", found.append) is False
    assert host.find_pods("10.0.0.1") == ()

    class Gatherer:
        async def gather(self, name, add):
            add(name)
            return True

    host.attach_proxies(SimpleNamespace(), SimpleNamespace(), Gatherer())
    host.attach(SimpleNamespace(objects=SimpleNamespace(find=lambda *query: query)), None)
    assert await host.gather_reports("denials", found.append) is True
    assert found == ["denials"]
    assert host.find_pods("10.0.0.1") == (Pod, "address", "10.0.0.1")


async def test_the_proxies_of_all_controllers_are_listed():
    host: Any = ControllerHost(ControllerSettings(), "one")
    assert await host.list_proxies() == ((), False)
    assert (host.list_own_proxies(), host.mesh_nodes) == ((), {})
    host.refresh_transport()

    class Finder:
        async def find(self):
            return SimpleNamespace(reports=("a", "b"), missing=())

    host.attach_proxies(SimpleNamespace(list_reports=lambda: ["a"]), Finder())
    host.attach(SimpleNamespace(transport_nodes={"n": 1}, refresh_transport=lambda: None), None)
    assert await host.list_proxies() == (("a", "b"), True)
    assert (host.list_own_proxies(), host.mesh_nodes) == (["a"], {"n": 1})
