"""The documentation says what the code does."""

import inspect
from pathlib import Path

import pytest

from maesh_core.cli.reference import build_sections, render_signature, replace_sections
from maesh_core.hookspecs import SPEC_FAMILIES
from maesh_core.plugin_loading import load_plugins
from maesh_core.plugin_metadata import list_installed, resolve_enabled
from maesh_core.settings import ControllerSettings, ProxySettings, UpSettings
from maesh_core.settings_fields import list_fields

DOCS = Path(__file__).resolve().parents[2] / "docs"
HOOKS = [(name, hook) for family in SPEC_FAMILIES for name, hook in vars(family).items() if name.startswith("maesh_")]


@pytest.mark.parametrize("name", ["command-line.md", "plugins.md"])
def test_generated_sections_are_current(name):
    text = (DOCS / name).read_text()
    assert replace_sections(text, build_sections()) == text, "run: python -m maesh_core.cli.reference docs"


def test_every_generated_section_stands_in_a_document():
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
    source = Path(inspect.getsourcefile(SPEC_FAMILIES[0])).read_text()
    for name, hook in HOOKS:
        assert f"    {render_signature(name, hook)}:" in source


@pytest.mark.parametrize("settings_class", [UpSettings, ControllerSettings, ProxySettings])
def test_every_flag_is_documented_with_variable_default_and_meaning(settings_class):
    rows = [line for line in (DOCS / "command-line.md").read_text().splitlines() if line.startswith("| `--")]
    for field in list_fields(settings_class):
        parts = (f"`{field.flag}", f"`{field.variable}`", f"`{field.default_text}`", field.description)
        assert any(all(part.strip("`") in row for part in parts) for row in rows), field.flag


def test_tutorial_of_the_plugin_guide_works(install):
    text = (DOCS / "plugins.md").read_text()
    blocks = [part.partition("```")[0] for part in text.split("```python\n")[1:]]
    files = {"acme_greet/__init__.py": blocks[0], "acme_greet/halves.py": blocks[1]}
    install("acme-greet", [("greet", "acme_greet:PLUGIN")], files)
    raw, plugins = {"greet": {"header": "X-Hello"}}, resolve_enabled(list_installed(), {"greet": True})
    (builder,) = load_plugins("controller", plugins, raw).collect("maesh_middleware_builders")
    (factory,) = load_plugins("proxy", plugins, raw).collect("maesh_middleware_factories")
    settings = builder.build_settings({"greeting": "hello"}, None)
    assert settings == {"header": "X-Hello", "text": "hello"}
    middleware = factory.build_middleware(factory.settings_type(**settings), "shop/cart:80")
    assert (middleware.name, middleware.value) == (b"X-Hello", b"hello")
