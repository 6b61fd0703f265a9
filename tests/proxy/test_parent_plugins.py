"""Which plugins the parent of the workers loads, and what they get."""

import sys
from typing import Any

import pytest

from maesh_core.errors import PluginError, SettingsError
from maesh_core.plugin_system.metadata import list_installed
from maesh_core.proxy.parent_plugins import load_node_services
from maesh_core.settings import ProxySettings

DECLARATION = """
import msgspec
from maesh_core.plugin import Plugin

class Settings(msgspec.Struct, frozen=True):
    every_s: int = 1

PLUGIN = Plugin(hook_api_version=1, settings=Settings, proxy="renewing.proxy:Half")
"""
PARENT = """
from maesh_core.plugin import hookimpl

class Renewal:
    name = "renewal"
    def __init__(self, every_s, parent):
        self.every_s, self.parent = every_s, parent
    async def run(self):
        pass

class ParentHalf:
    def __init__(self, settings):
        self._settings = settings
    @hookimpl
    def maesh_node_services(self, parent):
        return [Renewal(self._settings.every_s, parent)]
"""


@pytest.fixture
def settings(install):
    """Install a plugin with a half for the parent, and one without."""
    files = {
        "renewing/__init__.py": DECLARATION,
        "renewing/parent.py": PARENT,
        "renewing/proxy.py": "raise RuntimeError('this half belongs to workers')",
    }
    install(
        "acme-renewing", [("renewing", "renewing:PLUGIN")], files, parents=[("renewing", "renewing.parent:ParentHalf")]
    )
    install("acme-plain", [("plain", "plain:PLUGIN")], {"plain.py": "raise RuntimeError('nothing imports this')"})
    return ProxySettings(plugins=list_installed(), plugin_settings={"renewing": {"every-s": "5"}})


def open_parent(plugin):
    return f"parent for {plugin}"


def test_only_the_parents_halves_are_imported_and_get_their_settings(settings):
    service: Any = load_node_services(settings, open_parent)[0]
    assert (service.name, service.every_s, service.parent) == ("renewal", 5, "parent for renewing")
    assert "plain" not in sys.modules
    assert "renewing.proxy" not in sys.modules


def test_the_settings_are_checked(settings):
    settings.plugin_settings["renewing"]["every-s"] = "often"
    with pytest.raises(SettingsError, match="'often' is not"):
        load_node_services(settings, open_parent)


def test_a_half_that_cannot_be_imported_is_an_error(install):
    install("acme-odd", [("odd", "odd:PLUGIN")], {"odd.py": DECLARATION}, parents=[("odd", "odd:Missing")])
    with pytest.raises(PluginError, match=r"acme-odd 1\.0.*cannot be imported from odd:Missing"):
        load_node_services(ProxySettings(plugins=list_installed()), open_parent)


def test_the_name_of_another_plugin_gives_no_half(install):
    install("acme-odd", [("odd", "odd:PLUGIN")], parents=[("other", "odd:Half")])
    assert [plugin.parent for plugin in list_installed()] == [""]
