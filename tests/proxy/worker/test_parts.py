"""The parts of a worker: what they are without plugins, and in which order they are closed."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from maesh_core.errors import PluginError
from maesh_core.proxy.worker.memory import WorkerMemory
from maesh_core.proxy.worker.parts import build_parts
from maesh_core.proxy.worker.runtime import WorkerRuntime
from maesh_core.settings import ProxySettings


class FakePlugins:
    """Plugins that provide what a test says, by the name of the hook."""

    guards: tuple[str, ...] = ()

    def __init__(self, **provided):
        self.provided = provided

    def collect(self, hook_name, **arguments):
        return self.provided.get(hook_name, [])

    def describe(self, provided):
        return f"plugin of {type(provided).__name__}"

    def is_guard(self, provided):
        return False


class FakeHandler:
    """A protocol that ends its connections one turn after they are aborted."""

    name = "plain"
    router_type = object

    def __init__(self, ends):
        self.ends = ends

    def compile_table(self, section, *, middlewares, changed):
        return None

    def apply_table(self, table):
        """Use nothing."""

    def collect_metrics(self):
        return []

    def abort(self):
        asyncio.get_running_loop().call_soon(self.ends.append, "connections")


class FakeObserver:
    name = "log"

    def __init__(self, ends):
        self.ends = ends

    def observe(self, record):
        """Keep nothing."""

    def close(self):
        self.ends.append("observer")


class FakeFactory:
    kind = "stamp"
    settings_type = object
    report_name = "stamps"

    def build_middleware(self, settings, service):
        """Build nothing."""

    def build_report(self):
        return b"{}"


async def test_without_plugins_a_worker_has_the_protocols_of_the_core():
    async with AsyncExitStack() as stack:
        parts = build_parts(ProxySettings(), FakePlugins(), WorkerMemory(), stack)
        assert sorted(parts.serving) == ["http", "tcp"]
        assert (parts.factories, parts.reporting, parts.node.deliveries) == ({}, {}, None)


async def test_observers_are_closed_after_the_connections_that_they_observe():
    ends = []
    plugins = FakePlugins(maesh_protocol_handlers=[FakeHandler(ends)], maesh_traffic_observers=[FakeObserver(ends)])
    runtime = WorkerRuntime(ProxySettings(), plugins, WorkerMemory())
    await runtime.abort()
    assert ends == ["connections", "observer"]
    await runtime.abort()
    assert ends == ["connections", "observer"]


async def test_a_factory_that_makes_a_report_is_found_by_its_name():
    factory = FakeFactory()
    runtime = WorkerRuntime(ProxySettings(), FakePlugins(maesh_middleware_factories=[factory]), WorkerMemory())
    assert (runtime.build_report("stamps"), runtime.build_report("others")) == (b"{}", None)
    await runtime.abort()


async def test_a_protocol_of_the_core_cannot_be_claimed():
    handler = FakeHandler([])
    handler.name = "http"
    async with AsyncExitStack() as stack:
        with pytest.raises(PluginError, match="protocol http belongs to the core, but plugin of FakeHandler claims it"):
            build_parts(ProxySettings(), FakePlugins(maesh_protocol_handlers=[handler]), WorkerMemory(), stack)
