"""Which modules each process of a mesh has loaded, and which it must do without: each is memory in every node."""

import subprocess
import sys

import pytest

from maesh_core.plugin_metadata import DEFAULT_ON

COMMAND_LINE = {"typer", "pydantic", "rich", "maesh_core.settings_loading", "importlib.metadata"}
CONTROLLER = {
    "aiohttp",
    "email",
    "kubernetes_asyncio",
    "watchfiles",
    "yaml",
    "maesh_core.configuration",
    "maesh_core.controller",
    "maesh_core.discovery",
    "maesh_core.dns",
    "maesh_core.kubernetes",
    "maesh_core.resources",
    "maesh_core.topology",
}
CLUSTER = {"aiohttp", "email", "kubernetes_asyncio", "maesh_core.dns", "maesh_core.controller.cluster"}
"""What only a controller of a cluster needs."""
ENGINE = {
    "pluggy",
    "uvloop",
    "maesh_core.hookspecs",
    "maesh_core.interfaces",
    "maesh_core.plugin_loading",
    "maesh_core.proxy.clock",
    "maesh_core.proxy.middleware",
    "maesh_core.proxy.protocol",
    "maesh_core.proxy.upstream",
    "maesh_core.proxy.workers.carrier",
}
"""What carries traffic. Its compiled form is one library, so any module of it would bring it all."""

PARENT = """
import maesh_core.proxy.__main__
from maesh_core.proxy.asyncio_without_tls import import_asyncio_without_tls
import_asyncio_without_tls()
import maesh_core.proxy.run
from maesh_core.proxy.metrics import MetricsPage
MetricsPage([]).render()
"""
WORKER = f"""
import maesh_core.proxy.workers.worker
from maesh_core.plugin_loading import load_plugins
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
import maesh_core.cli.up_program, maesh_core.cli.running, maesh_core.cli.up_running, maesh_core.plugin_loading
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
        (WORKER, "maesh_core.proxy.workers.carrier", COMMAND_LINE | CONTROLLER | {"maesh_core.proxy.run"}),
        (MESH, "maesh_core.controller.run", COMMAND_LINE | CLUSTER | {"uvloop", "maesh_core.proxy"}),
        (VERSION, "typer", (CONTROLLER - {"email"}) | ENGINE | {"asyncio", "ssl", "maesh_core.proxy"}),
    ],
    ids=["parent", "worker", "mesh", "version"],
)
def test_a_process_loads_nothing_of_the_others(program: str, needed: str, unwanted: set[str]) -> None:
    loaded = list_loaded(program)
    assert needed in loaded
    assert loaded & (unwanted | {"prometheus_client"}) == set()
