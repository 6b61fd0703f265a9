"""The two halves of a plugin share one struct: what the controller's half builds is what the proxy's half decodes."""

import inspect
import sys
from importlib import import_module
from pathlib import Path
from typing import get_args, get_type_hints

import msgspec
import pytest

from maesh_testing import FakeNode

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    path.parents[1]: path.parent.name
    for pattern in ("plugins/*", "examples/plugins/*", "maesh_core/templates/plugin/*")
    for path in ROOT.glob(f"{pattern}/maesh_*/controller.py")
    if "def build_settings" in path.read_text()
}


def collect(plugin, path, *hooks):
    """List what a half of a plugin gives to these hooks, with the default settings."""
    module, _, name = path.partition(":")
    half = getattr(import_module(module), name)
    made = half(plugin.settings()) if plugin.settings else half()
    found = []
    for hook in [getattr(made, hook) for hook in hooks if hasattr(made, hook)]:
        found += hook(node=FakeNode()) if "node" in inspect.signature(hook).parameters else hook()
    return found


@pytest.fixture
def load(monkeypatch):
    """Load the declaration of a plugin from its folder; a template's package is forgotten, for others have its name."""

    def load_declaration(folder):
        monkeypatch.syspath_prepend(folder)
        return import_module(PACKAGES[folder]).PLUGIN

    yield load_declaration
    for name in [name for name in sys.modules if name.partition(".")[0] == "maesh_blank"]:
        del sys.modules[name]


def test_shipped_plugins_examples_and_the_template_are_looked_at():
    assert {"maesh_acl", "maesh_retry", "maesh_ratelimit", "maesh_circuitbreaker"} < set(PACKAGES.values())
    assert {"maesh_stamp", "maesh_forward_auth", "maesh_consistent_hash", "maesh_blank"} < set(PACKAGES.values())


@pytest.mark.parametrize("folder", PACKAGES, ids=PACKAGES.values())
async def test_the_struct_that_one_half_builds_is_the_one_that_the_other_decodes(folder, load):
    plugin = load(folder)
    builders = collect(plugin, plugin.controller, "maesh_middleware_builders", "maesh_balancer_builders")
    factories = collect(
        plugin, plugin.proxy, "maesh_middleware_factories", "maesh_balancer_factories", "maesh_traffic_observers"
    )
    built = [get_type_hints(builder.build_settings)["return"] for builder in builders]
    structs = [next(each for each in (get_args(type_) or (type_,)) if each is not type(None)) for type_ in built]
    assert structs == [factory.settings_type for factory in factories]
    assert all(issubclass(struct, msgspec.Struct) for struct in structs)
    assert structs
