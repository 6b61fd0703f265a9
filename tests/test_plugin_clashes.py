"""Two plugins that claim one thing stop the start with a line that names both, and the distributions they come from."""

import asyncio

import pytest

from maesh_core.controller.building import build_once
from maesh_core.errors import PluginError
from maesh_core.plugin_system.loading import load_plugins
from maesh_core.plugin_system.metadata import list_installed
from maesh_core.proxy.worker.memory import WorkerMemory
from maesh_core.proxy.worker.runtime import WorkerRuntime
from maesh_core.settings import ControllerSettings, ProxySettings

PLUGIN = """
from maesh_core.plugin import *

PLUGIN = Plugin(hook_api_version=1, controller="MODULE:Half", proxy="MODULE:Half")


class Given:
    name = kind = "shared"
    annotations = ()
    stage = Stage.LIMIT
    transport = "TCP"
    port_range = PortRange(first=17000, limit=1, is_exclusive=True)
    has_middlewares = False
    settings_type = router_type = node_type = dict

    def watch_events(self, kinds): ...
    def build(self, view, service): ...
    def build_settings(self, annotations, service): ...
    def build_section(self, service, annotations, *, entrypoints, middlewares): ...
    def build_closed_section(self, service, *, entrypoints, reason): ...
    def build_balancer(self, settings, servers, former): ...
    def build_middleware(self, settings, service): ...
    def compile_table(self, section, *, middlewares, changed): ...
    def apply_table(self, table): ...
    def open_listener(self, sock, entrypoint): ...
    def collect_metrics(self): ...
    def start_draining(self): ...
    def is_drained(self): ...
    def abort(self): ...
    def apply_nodes(self, nodes, clients): ...
    def find_path(self, server, mode): ...
    def receive(self, payload): ...


class Half:
    @hookimpl
    def HOOK(self):
        given = Given()
        given.__dict__.update(OWN)
        return [given]
"""
KIND = "ResourceKind(name='Shared', plural='shareds', api_versions=('a/v1',), type=Resource)"
CONTROLLER = [
    ("maesh_sources", {}, "source 'shared'"),
    ("maesh_topology_builders", {}, "topology builder 'shared'"),
    ("maesh_traffic_types", {}, "traffic type 'shared'"),
    ("maesh_balancer_builders", {}, "load balancer 'shared'"),
    ("maesh_middleware_builders", {}, "middleware kind 'shared'"),
    ("maesh_middleware_builders", {"annotations": ("greeting",)}, "annotation 'greeting'"),
    ("maesh_resource_kinds", {}, "kind of resources 'Shared'"),
]
PROXY = [
    ("maesh_protocol_handlers", "protocol shared"),
    ("maesh_balancer_factories", "load balancer shared"),
    ("maesh_middleware_factories", "middleware kind shared"),
]


@pytest.fixture
def load_two(install):
    def load(half, hook, *, own=None):
        for name in ("ant", "bee"):
            ours = {**(own or {}), **({"kind": name} if own else {})}
            code = PLUGIN.replace("MODULE", f"clash_{name}").replace("HOOK", hook).replace("OWN", repr(ours))
            if hook == "maesh_resource_kinds":
                code = code.replace("given = Given()\n        given.__dict__.update({})", f"given = {KIND}")
            install(f"acme-{name}", [(name, f"clash_{name}:PLUGIN")], {f"clash_{name}.py": code})
        return load_plugins(half, list_installed(), {})

    return load


@pytest.mark.parametrize(("hook", "own", "what"), CONTROLLER)
def test_two_plugins_that_claim_the_same_stop_the_controller(load_two, tmp_path, hook, own, what):
    plugins = load_two("controller", hook, own=own)
    with pytest.raises(PluginError) as caught:
        asyncio.run(build_once(ControllerSettings(paths=(str(tmp_path),)), plugins))
    assert str(caught.value) == f"{what} is claimed by both plugin 'ant' (acme-ant 1.0) and plugin 'bee' (acme-bee 1.0)"


@pytest.mark.parametrize(("hook", "what"), PROXY)
def test_two_plugins_that_claim_the_same_stop_the_proxy(load_two, hook, what):
    plugins = load_two("proxy", hook)

    async def start():
        WorkerRuntime(ProxySettings(), plugins, WorkerMemory())

    with pytest.raises(PluginError) as caught:
        asyncio.run(start())
    assert str(caught.value) == f"{what} is claimed by both plugin 'ant' (acme-ant 1.0) and plugin 'bee' (acme-bee 1.0)"


def test_two_transports_in_a_proxy(load_two):
    plugins = load_two("proxy", "maesh_transports")

    async def start():
        WorkerRuntime(ProxySettings(), plugins, WorkerMemory())

    with pytest.raises(PluginError) as caught:
        asyncio.run(start())
    assert str(caught.value) == (
        "both plugin 'ant' (acme-ant 1.0) and plugin 'bee' (acme-bee 1.0) provide a transport,"
        " but at most one can be enabled"
    )
