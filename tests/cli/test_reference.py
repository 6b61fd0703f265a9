"""The documentation says what the code does."""

import inspect
import re
from enum import Enum
from pathlib import Path

import pytest

from maesh_core import plugin
from maesh_core.cli.reference import build_sections, render_signature, replace_sections
from maesh_core.plugin_system import hookspecs, interfaces, node, protocols
from maesh_core.plugin_system.hookspecs import SPEC_FAMILIES
from maesh_core.settings import ControllerSettings, PrepareSettings, ProxySettings, UpSettings
from maesh_core.settings.fields import list_fields

DOCS = Path(__file__).resolve().parents[2] / "docs"
HOOKS = [(name, hook) for family in SPEC_FAMILIES for name, hook in vars(family).items() if name.startswith("maesh_")]


@pytest.mark.parametrize("name", ["command-line.md", "hooks.md", "plugins.md"])
def test_generated_sections_are_current(name):
    text = (DOCS / name).read_text()
    assert replace_sections(text, build_sections()) == text, "run: python -m maesh_core.cli.reference docs"


def test_every_generated_section_is_in_a_document():
    text = "".join(path.read_text() for path in DOCS.glob("*.md"))
    for name in build_sections():
        assert f"<!-- begin: {name} -->" in text
        assert f"<!-- end: {name} -->" in text


@pytest.mark.parametrize(("name", "hook"), HOOKS, ids=[name for name, _ in HOOKS])
def test_hook_is_documented_with_its_exact_signature(name, hook):
    text = (DOCS / "plugins.md").read_text()
    assert f"```python\n{render_signature(name, hook)}\n```" in text
    assert inspect.getdoc(hook) in text


def test_signature_is_the_one_in_the_source():
    for name, hook in HOOKS:
        source = inspect.getsource(inspect.getmodule(hook))
        assert f"    {render_signature(name, hook)}:" in source


@pytest.mark.parametrize("settings_class", [UpSettings, ControllerSettings, ProxySettings, PrepareSettings])
def test_every_flag_is_documented_with_variable_default_and_meaning(settings_class):
    rows = [line for line in (DOCS / "command-line.md").read_text().splitlines() if line.startswith("| `--")]
    for field in list_fields(settings_class):
        parts = (f"`{field.flag}", f"`{field.variable}`", f"`{field.default_text}`", field.description)
        assert any(all(part.strip("`") in row for part in parts) for row in rows), field.flag


DECLARED = [
    found
    for module in (hookspecs, interfaces, node, protocols)
    for found in vars(module).values()
    if inspect.isclass(found) and f"{found.__module__}.".startswith(f"{module.__name__}.")
]


@pytest.mark.parametrize(
    "declared", [each for each in DECLARED if each not in SPEC_FAMILIES], ids=lambda each: each.__name__
)
def test_every_interface_is_documented_with_its_members(declared):
    text = (DOCS / "plugins.md").read_text().partition(f"#### {declared.__name__}\n")[2].partition("\n###")[0]
    assert text, declared.__name__
    names = {name for name in (*vars(declared), *inspect.get_annotations(declared)) if not name.startswith("_")}
    for name in names - {"name", "value"} if issubclass(declared, Enum) else names:
        assert re.search(rf"^\* `{name}\b", text, re.MULTILINE), name


def test_everything_that_a_plugin_can_import_is_documented():
    text = (DOCS / "plugins.md").read_text()
    assert [name for name in plugin.__all__ if not re.search(rf"`@?{name}\b|#### {name}\n", text)] == []


def test_types_that_are_imported_only_for_type_checkers_are_shown_as_others():
    def start(name: str) -> "asyncio.subprocess.Process":  # type: ignore[name-defined]  # noqa: F821
        raise NotImplementedError

    assert render_signature("start", start) == "def start(name: str) -> asyncio.subprocess.Process"
