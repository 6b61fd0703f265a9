"""Which modules each process of a mesh has loaded, and which it must do without: each is memory in every node."""

import subprocess
import sys

import pytest

from maesh_core.plugin_system.metadata import DEFAULT_ON

COMMAND_LINE = {"typer", "pydantic", "rich", "maesh_core.settings.loading", "importlib.metadata"}
CONTROLLER = {
    "aiohttp",
    "email",
    "kubernetes_asyncio",
    "watchfiles",
    "yaml",
    "maesh_core.controller.configuration",
    "maesh_core.controller",
    "maesh_core.controller.discovery",
    "maesh_core.controller.dns",
    "maesh_core.controller.kubernetes",
    "maesh_core.controller.resources",
    "maesh_core.controller.topology",
}
CLUSTER = {
    "aiohttp",
    "email",
    "kubernetes_asyncio",
    "maesh_core.controller.dns",
    "maesh_core.controller.cluster.membership",
}
"""What only a controller of a cluster needs."""
ENGINE = {
    "pluggy",
    "uvloop",
    "maesh_core.plugin_system.hookspecs",
    "maesh_core.plugin_system.interfaces",
    "maesh_core.plugin_system.loading",
    "maesh_core.proxy.network.clock",
    "maesh_core.proxy.middleware",
    "maesh_core.proxy.http",
    "maesh_core.proxy.tcp",
    "maesh_core.proxy.balancing",
    "maesh_core.proxy.worker.runtime",
}
"""What carries traffic. Its compiled form is one library, so any module of it would bring it all."""

PARENT = """
import maesh_core.proxy.__main__
from maesh_core.proxy.asyncio_without_tls import import_asyncio_without_tls
import_asyncio_without_tls()
import maesh_core.proxy.node.run
from maesh_core.proxy.node.metrics import MetricsPage
MetricsPage([]).render()
"""
WORKER = f"""
import maesh_core.proxy.worker.program
from maesh_core.plugin_system.loading import load_plugins
from maesh_core.settings import InstalledPlugin
names = {sorted(DEFAULT_ON)}
plugins = [InstalledPlugin(name=name, distribution=name, version="1", summary="", is_default=True,
                           path=f"maesh_{{name}}:PLUGIN") for name in names]
load_plugins("proxy", plugins, {{}})
"""
VERSION = """
import contextlib, io
from maesh_core.cli.app import run_command_line
with contextlib.redirect_stdout(io.StringIO()):
    run_command_line(["version"])
"""
MESH = """
import maesh_core.cli.local_mesh.program, maesh_core.cli.running, maesh_core.cli.local_mesh.running
import maesh_core.plugin_system.loading
"""


def list_loaded(program: str) -> set[str]:
    """Run a program; give every module that is loaded at its end, and the packages that these are in."""
    listing = "\nprint(*sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", f"import sys\n{program}{listing}"], capture_output=True, text=True, check=True
    )
    names = ended.stdout.split()
    return {name[:end] for name in names for end in (*(at for at, sign in enumerate(name) if sign == "."), None)}


@pytest.mark.parametrize(
    ("program", "needed", "unwanted"),
    [
        (
            PARENT,
            "maesh_core.proxy.workers.pool",
            COMMAND_LINE | CONTROLLER | ENGINE | {"ctypes", "http", "ssl", "maesh_core.cli"},
        ),
        (WORKER, "maesh_core.proxy.worker.runtime", COMMAND_LINE | CONTROLLER | {"maesh_core.proxy.node.run"}),
        (MESH, "maesh_core.controller.run", COMMAND_LINE | CLUSTER | {"uvloop", "maesh_core.proxy"}),
        (VERSION, "typer", (CONTROLLER - {"email"}) | ENGINE | {"asyncio", "ssl", "maesh_core.proxy"}),
    ],
    ids=["parent", "worker", "mesh", "version"],
)
@pytest.mark.slow
def test_a_process_loads_nothing_of_the_others(program: str, needed: str, unwanted: set[str]) -> None:
    loaded = list_loaded(program)
    assert needed in loaded
    assert loaded & (unwanted | {"prometheus_client"}) == set()
