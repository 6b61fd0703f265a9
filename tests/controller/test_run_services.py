"""A running controller prepares and runs the services of plugins, and shows what they report."""

import asyncio
import socket

import aiohttp
import pytest

from maesh_core.controller.kubernetes.client import KubernetesClient
from maesh_core.controller.run import run_controller
from maesh_core.errors import ConfigurationError, StartupError
from maesh_core.model.metrics import MetricFamily
from maesh_core.settings import ControllerSettings
from maesh_testing.api_server import ApiServer

from .running_controller import FakePlugins, get, start


class CountingService:
    """A service that reports a problem, and has a metric."""

    name = "counting"

    def __init__(self, host):
        self._host = host
        self.is_running = asyncio.Event()

    async def run(self):
        self._host.report("counting", "it cannot count")
        self.is_running.set()
        await asyncio.Event().wait()

    def collect_metrics(self):
        return [MetricFamily(name="acme_counted", type="gauge", help="What was counted.", samples=(((), 3),))]


class ServicePlugins(FakePlugins):
    """A plugin with a service, which gets the controller."""

    def collect(self, hook_name, **arguments):
        if hook_name == "maesh_controller_services":
            self.service = CountingService(arguments["controller"])
            return [self.service]
        return super().collect(hook_name, **arguments)


async def test_services_of_plugins_run_and_their_problems_and_metrics_are_shown(settings):
    plugins = ServicePlugins()
    running = await start(ControllerSettings(**settings), plugins)
    await plugins.service.is_running.wait()
    _, report = await get(running.url + "/api/status/controller")
    assert report["problems"] == {"counting": "it cannot count"}
    async with aiohttp.ClientSession() as session, session.get(f"{running.url}/metrics") as response:
        assert "acme_counted 3" in await response.text()
    await running.end()


class HeldService(CountingService):
    """A service that is prepared once `is_allowed` is set; `error` stops the start. It lists objects before."""

    def __init__(self, host, error=None):
        super().__init__(host)
        self.error, self.is_preparing, self.is_allowed = error, asyncio.Event(), asyncio.Event()

    async def prepare(self):
        if self._host.cluster is not None:
            await self._host.cluster.send("GET", "/api/v1/namespaces/maesh/pods")
        self.is_preparing.set()
        await self.is_allowed.wait()
        if self.error is not None:
            raise self.error


class HeldPlugins(FakePlugins):
    """A plugin with a service that must be prepared."""

    def __init__(self, error=None, **hooks):
        super().__init__(**hooks)
        self.error, self.services = error, asyncio.Queue()

    def collect(self, hook_name, **arguments):
        if hook_name == "maesh_controller_services":
            service = HeldService(arguments["controller"], self.error)
            self.services.put_nowait(service)
            return [service]
        return super().collect(hook_name, **arguments)


def find_free_port():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


async def test_until_services_are_prepared_only_probes_are_answered_and_nothing_is_built(settings):
    plugins, stop = HeldPlugins(), asyncio.Event()
    ready = asyncio.get_running_loop().create_future()
    settings["api_port"] = find_free_port()
    url = f"http://127.0.0.1:{settings['api_port']}"
    task = asyncio.create_task(
        run_controller(ControllerSettings(**settings), plugins, stop=stop, ready=ready.set_result)
    )
    service = await plugins.services.get()
    await service.is_preparing.wait()
    assert await get(url + "/api/status/liveness") == (200, True)
    assert await get(url + "/api/status/readiness") == (503, False)
    async with aiohttp.ClientSession() as session, session.get(f"{url}/api/configuration/current") as response:
        assert (response.status, await response.text()) == (503, "the controller starts\n")
    assert not service.is_running.is_set()
    service.is_allowed.set()
    await ready
    assert await get(url + "/api/status/readiness") == (200, True)
    await service.is_running.wait()
    stop.set()
    await task


async def test_a_controller_can_be_stopped_while_services_are_prepared(settings):
    plugins, stop = HeldPlugins(), asyncio.Event()
    task = asyncio.create_task(run_controller(ControllerSettings(**settings), plugins, stop=stop))
    service = await plugins.services.get()
    await service.is_preparing.wait()
    stop.set()
    await task
    assert not service.is_running.is_set()


async def test_a_service_that_cannot_be_prepared_leaves_nothing_open(settings, tmp_path, monkeypatch):
    closed = []

    async def close(client):
        closed.append(client)
        await close_client(client)

    close_client = KubernetesClient.close
    monkeypatch.setattr(KubernetesClient, "close", close)
    plugins = HeldPlugins(ConfigurationError("no disk"))
    with ApiServer() as server:
        kubeconfig = server.write_kubeconfig(tmp_path / "kubeconfig", token=server.token)
        settings = {**settings, "paths": (), "kubeconfig": str(kubeconfig)}
        task = asyncio.create_task(run_controller(ControllerSettings(**settings), plugins, stop=asyncio.Event()))
        (await plugins.services.get()).is_allowed.set()
        with pytest.raises(StartupError, match="counting: no disk"):
            await task
    assert len(closed) == 1
    assert asyncio.all_tasks() == {asyncio.current_task()}
