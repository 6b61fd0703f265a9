"""`maesh plugins`: everything that is installed, what it gives, and why not."""

import json
import os
import sys

import pytest

from maesh_core.cli.app import run_command_line


@pytest.fixture
def list_plugins(capsys, install, monkeypatch):
    """Run the command; return its rows as JSON, or its text."""
    for name in [name for name in os.environ if name.startswith(("MAESH_", "TRAEFIK_MESH_"))]:
        monkeypatch.delenv(name)

    def run(*arguments, as_text=False):
        assert run_command_line(["plugins", *arguments, *([] if as_text else ["--json"])]) == 0
        out = capsys.readouterr().out
        return out if as_text else {row["distribution"]: row for row in json.loads(out)}

    return run


def test_a_list_without_plugins_says_so(list_plugins):
    assert list_plugins() == {}
    assert list_plugins(as_text=True) == "No plugins are installed.\n"


def test_plugin_that_is_off_is_listed_by_its_summary_and_not_imported(list_plugins, stamp):
    assert list_plugins()["acme-stamp"] == {
        "name": "stamp",
        "distribution": "acme-stamp",
        "version": "1.0",
        "summary": "Stamps a header",
        "enabled": False,
        "default": False,
        "provides": [],
        "error": None,
    }
    row = list_plugins(as_text=True).splitlines()[1]
    assert " ".join(row.split()) == "stamp acme-stamp 1.0 no Stamps a header"
    assert not any(name.startswith("stamping") for name in sys.modules)


@pytest.mark.parametrize("how", ["flag", "variable", "file"])
def test_plugin_that_is_on_is_listed_by_what_both_halves_give(list_plugins, stamp, monkeypatch, tmp_path, how):
    if how == "variable":
        monkeypatch.setenv("MAESH_PLUGINS", "stamp")
    if how == "file":
        (tmp_path / "maesh.toml").write_text("[plugins]\nstamp = true\n")
        monkeypatch.setenv("MAESH_CONFIG_FILE", str(tmp_path / "maesh.toml"))
    row = list_plugins(*(["--stamp"] if how == "flag" else []))["acme-stamp"]
    assert row["enabled"] is True
    assert row["provides"] == ["middleware stamp (annotation stamp)"]


def test_listing_goes_on_after_plugins_that_cannot_load(list_plugins, stamp, install):
    install("acme-odd", [("odd", "oddity:PLUGIN")], {"oddity.py": "import no_such_module"})
    install("acme-loud", [("api-port", "loudness:PLUGIN")], {})
    install("acme-twin", [("twin", "twin:PLUGIN")], {})
    install("other-twin", [("twin", "twin:PLUGIN")], {})
    rows = list_plugins("--odd", "--stamp")
    assert "ModuleNotFoundError" in rows["acme-odd"]["error"]
    assert "is a flag of maesh itself" in rows["acme-loud"]["error"]
    assert rows["acme-twin"]["error"] == rows["other-twin"]["error"]
    assert rows["acme-stamp"]["provides"] == ["middleware stamp (annotation stamp)"]
    assert "cannot load: plugin 'odd'" in list_plugins("--odd", as_text=True)


def test_bad_setting_of_a_plugin_is_why_it_cannot_load(list_plugins, stamp):
    row = list_plugins("--stamp", "--set", "stamp.colour=red")["acme-stamp"]
    assert row["error"].startswith("--set stamp.colour: plugin 'stamp' (acme-stamp 1.0) has no setting 'colour'")


def test_traffic_type_is_named_once_for_both_halves(list_plugins, install):
    code = """
from maesh_core.plugin import Plugin, PortRange, StreamRouter, hookimpl
import asyncio
PLUGIN = Plugin(hook_api_version=1, controller="carrier:Half", proxy="carrier:Half")
class Pigeon:
    name = "pigeon"
    transport = "TCP"
    port_range = PortRange(first=17000, limit=1, is_exclusive=True)
    has_middlewares = False
    router_type = StreamRouter
    def build_section(self, service, annotations, *, entrypoints, middlewares): ...
    def build_closed_section(self, service, *, entrypoints, reason): ...
    def compile_table(self, section, *, middlewares, changed): ...
    def apply_table(self, table): ...
    def open_listener(self, sock, entrypoint): ...
    def collect_metrics(self): ...
    def start_draining(self): ...
    def is_drained(self): ...
    def abort(self): ...
class Half:
    @hookimpl
    def maesh_traffic_types(self):
        return [Pigeon()]
    @hookimpl
    def maesh_protocol_handlers(self):
        asyncio.get_running_loop()
        return [Pigeon()]
    @hookimpl
    def maesh_sources(self):
        return []
"""
    install("acme-carrier", [("carrier", "carrier:PLUGIN")], {"carrier.py": code})
    assert list_plugins("--carrier")["acme-carrier"]["provides"] == ["traffic type pigeon"]


def test_transport_is_named_once_for_both_halves_with_its_annotations(list_plugins, install):
    code = """
from maesh_core.plugin import Plugin, hookimpl
PLUGIN = Plugin(hook_api_version=1, controller="courier:Half", proxy="courier:Half")
class Courier:
    name = "courier"
    annotations = ("sealed",)
    node_type = dict
    def build_mode(self, annotations, service): ...
    def describe_node(self, node): ...
    def apply_nodes(self, nodes, clients): ...
    def find_path(self, server, mode): ...
    def receive(self, payload): ...
class Half:
    @hookimpl
    def maesh_transport_rules(self):
        return [Courier()]
    @hookimpl
    def maesh_transports(self):
        return [Courier()]
"""
    install("acme-courier", [("courier", "courier:PLUGIN")], {"courier.py": code})
    assert list_plugins("--courier")["acme-courier"]["provides"] == ["transport courier (annotation sealed)"]
