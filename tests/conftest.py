"""What tests of several folders need: distributions of one test, and folders that a whole run shares."""

import fcntl
import logging
import sys
from importlib.metadata import distributions

import pytest


@pytest.fixture(scope="session")
def make_once(tmp_path_factory, worker_id):
    """Have a folder made by the first worker of a run that needs it; the others wait, and use it as it is."""
    root = tmp_path_factory.getbasetemp()
    root = root if worker_id == "master" else root.parent

    def make(name, write_content):
        folder, is_made = root / name, root / f"{name}.made"
        with (root / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not is_made.exists():
                folder.mkdir()
                write_content(folder)
                is_made.touch()
        return folder

    return make


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Write distributions as pip would leave them: modules, and metadata with entry points; no others are seen."""
    site = tmp_path / "site-packages"
    site.mkdir()
    monkeypatch.syspath_prepend(site)

    def find_entry_points(group):
        found = [entry for each in distributions(path=[str(site)]) for entry in each.entry_points]
        return [entry for entry in found if entry.group == group]

    monkeypatch.setattr("maesh_core.plugin_system.metadata.entry_points", find_entry_points)
    modules = set()

    def install_distribution(
        name,
        entry_points,
        files=None,
        *,
        version="1.0",
        summary="A plugin for tests",
        parents=(),
        commands=(),
        converters=(),
    ):
        for path, text in (files or {}).items():
            target = site / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
            modules.add(path.partition("/")[0].removesuffix(".py"))
        folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        folder.joinpath("METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: {summary}\n"
        )
        lines = [f"{plugin} = {path}" for plugin, path in entry_points]
        more = ["[maesh.parents]", *(f"{plugin} = {path}" for plugin, path in parents)] if parents else []
        more += ["[maesh.commands]", *(f"{plugin} = {path}" for plugin, path in commands)] if commands else []
        more += ["[maesh.converters]", *(f"{plugin} = {path}" for plugin, path in converters)] if converters else []
        folder.joinpath("entry_points.txt").write_text("\n".join(["[maesh.plugins]", *lines, *more, ""]))
        return site

    yield install_distribution
    for name in [name for name in sys.modules if name.partition(".")[0] in modules]:
        del sys.modules[name]


@pytest.fixture
def restored_logging():
    """Take back what a command does to the log of its process."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


STAMP = """
import msgspec
from maesh_core.plugin import Plugin

class Settings(msgspec.Struct, frozen=True):
    prefix: str = "X-"
    limit: int = 3
    names: tuple[str, ...] = ()

PLUGIN = Plugin(
    hook_api_version=1,
    settings=Settings,
    controller="stamping.controller:Half",
    proxy="stamping.proxy:Half",
)
"""

STAMP_CONTROLLER = """
from maesh_core.plugin import Stage, hookimpl

class Builder:
    kind = "stamp"
    stage = Stage.PROTECT
    annotations = ("stamp",)

    def __init__(self, settings):
        self.settings = settings

    def build_settings(self, annotations, service):
        return None

class Half:
    def __init__(self, settings):
        self.settings = settings

    @hookimpl
    def maesh_middleware_builders(self):
        return [Builder(self.settings)]
"""

STAMP_PROXY = """
from maesh_core.plugin import hookimpl

class Stamp:
    def on_response(self, exchange):
        pass

class Factory:
    kind = "stamp"
    settings_type = dict

    def build_middleware(self, settings, service):
        return Stamp()

class Half:
    def __init__(self, settings):
        pass

    @hookimpl
    def maesh_middleware_factories(self):
        return (Factory(),)
"""


@pytest.fixture
def stamp(install):
    """Install a plugin `stamp` with settings and both halves, in distribution acme-stamp."""
    files = {
        "stamping/__init__.py": STAMP,
        "stamping/controller.py": STAMP_CONTROLLER,
        "stamping/proxy.py": STAMP_PROXY,
    }
    return install("acme-stamp", [("stamp", "stamping:PLUGIN")], files, summary="Stamps a header")
