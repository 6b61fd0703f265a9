"""The two halves of a plugin share one struct: what the controller's half builds is what the proxy's half decodes."""

import inspect
import sys
from importlib import import_module
from pathlib import Path
from typing import get_args, get_type_hints

import msgspec
import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    path.parents[1]: path.parent.name
    for pattern in ("plugins/*", "examples/plugins/*", "maesh_core/templates/plugin/*")
    for path in ROOT.glob(f"{pattern}/maesh_*/controller.py")
    if "def build_settings" in path.read_text()
}


def list_classes(module, attribute):
    classes = (value for _, value in inspect.getmembers(module, inspect.isclass) if value.__module__ == module.__name__)
    return [found for found in classes if hasattr(found, attribute)]


@pytest.fixture
def import_half(monkeypatch):
    """Import a half of a plugin from its folder, and forget its package afterwards where others have its name."""
    before = set(sys.modules)

    def load(folder, name):
        monkeypatch.syspath_prepend(folder)
        return import_module(name)

    yield load
    for name in set(sys.modules) - before:
        if name.startswith("maesh_") and not name.startswith("maesh_core"):
            del sys.modules[name]


def test_shipped_plugins_examples_and_the_template_are_looked_at():
    assert {"maesh_acl", "maesh_retry", "maesh_ratelimit", "maesh_circuitbreaker"} < set(PACKAGES.values())
    assert {"maesh_stamp", "maesh_forward_auth", "maesh_consistent_hash", "maesh_blank"} < set(PACKAGES.values())


@pytest.mark.parametrize("folder", PACKAGES, ids=PACKAGES.values())
def test_the_struct_that_one_half_builds_is_the_one_that_the_other_decodes(folder, import_half):
    builders = list_classes(import_half(folder, f"{PACKAGES[folder]}.controller"), "build_settings")
    factories = list_classes(import_half(folder, f"{PACKAGES[folder]}.proxy"), "settings_type")
    built = [get_type_hints(builder.build_settings)["return"] for builder in builders]
    structs = [next(each for each in (get_args(type_) or (type_,)) if each is not type(None)) for type_ in built]
    assert structs == [factory.settings_type for factory in factories]
    assert all(issubclass(struct, msgspec.Struct) for struct in structs)
