"""Plugins: names from metadata, the enabled set, and one clear line for everything that may be wrong with one."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.errors import PluginError, SettingsError
from maesh_core.plugin_system.loading import load_plugins
from maesh_core.plugin_system.metadata import (
    DEFAULT_ON,
    enable_local_defaults,
    find_name_problems,
    list_installed,
    resolve_enabled,
)
from maesh_core.settings import InstalledPlugin
from maesh_core.settings.loading import list_core_flags

DECLARATION = "from maesh_core.plugin import Plugin\nPLUGIN = Plugin(hook_api_version=1{})\n"
HALF = "from maesh_core.plugin import hookimpl\nclass Half:\n"
SOURCE = """
class Told:
    def __init__(self, name):
        self.name = name
    def watch_events(self, kinds):
        raise NotImplementedError
"""
GUARD = DECLARATION.format(', controller="guarding:Half", proxy="guarding:Half", is_access_control=True')


@pytest.fixture(autouse=True)
def nothing_else_installed(install):
    """Hide what is installed beside the tests' own distributions."""


def is_imported(name):
    return any(module.partition(".")[0] == name for module in sys.modules)


def load(half="controller", raw=None, /, **switches):
    return load_plugins(half, resolve_enabled(list_installed(), switches), raw or {})


def find_problems():
    problems = find_name_problems(list_installed(), list_core_flags())
    assert list(problems) == list(list_installed())
    return list(problems.values())


@pytest.fixture
def broken(install):
    """Install a plugin `odd` of distribution acme-odd with this code; return the line that loading it ends with."""

    def load_broken(declaration, half_code=None, **raw):
        files = {"oddity/__init__.py": declaration}
        if half_code is not None:
            files["oddity/half.py"] = half_code
        install("acme-odd", [("odd", "oddity:PLUGIN")], files, version="2.5")
        with pytest.raises(PluginError) as caught:
            load("controller", {"odd": raw}, odd=True).collect("maesh_sources")
        text = str(caught.value)
        assert "acme-odd 2.5" in text
        assert "\n" not in text
        return text

    return load_broken


def with_half(code):
    return DECLARATION.format(', controller="oddity.half:Half"'), HALF + code


def test_installed_plugins_are_known_from_metadata_alone(stamp):
    (plugin,) = [plugin for plugin in list_installed() if plugin.name == "stamp"]
    assert (plugin.distribution, plugin.version, plugin.summary) == ("acme-stamp", "1.0", "Stamps a header")
    assert (plugin.path, plugin.is_default) == ("stamping:PLUGIN", False)
    assert not is_imported("stamping")


def test_plugin_that_is_not_enabled_is_never_imported(stamp):
    assert load().names == ()
    assert load(stamp=False).names == ()
    assert not is_imported("stamping")


def test_enabled_plugin_is_loaded_with_the_half_of_this_process_alone(stamp):
    plugins = load("proxy", stamp=True)
    assert plugins.names == ("stamp",)
    (factory,) = plugins.collect("maesh_middleware_factories")
    assert factory.kind == "stamp"
    assert plugins.collect("maesh_middleware_builders") == []
    assert "stamping.controller" not in sys.modules


@pytest.mark.parametrize("name", sorted(DEFAULT_ON))
def test_default_plugin_is_on_where_it_is_installed_and_off_by_its_switch(install, name):
    install(f"maesh-{name}", [(name, "shipped:PLUGIN")], {"shipped.py": DECLARATION.format("")})
    assert load().names == (name,)
    assert load(**{name: False}).names == ()


def test_the_dashboard_is_off_unless_a_command_enables_the_local_defaults(install):
    install("maesh-dashboard", [("dashboard", "shipped:PLUGIN")], {"shipped.py": DECLARATION.format("")})
    assert load().names == ()
    assert load(dashboard=True).names == ("dashboard",)
    (local,) = enable_local_defaults(list_installed())
    assert [each.name for each in resolve_enabled([local], {})] == ["dashboard"]
    assert resolve_enabled([local], {"dashboard": False}) == ()


def test_acl_is_off_without_its_switch(install):
    install("maesh-acl", [("acl", "shipped:PLUGIN")], {"shipped.py": DECLARATION.format("")})
    assert load().names == ()
    assert load(acl=True).names == ("acl",)


def test_default_plugin_that_is_not_installed_is_absent_without_error():
    assert load(retry=False).names == ()


def test_plugin_without_a_half_in_this_process_is_enabled_all_the_same(install):
    declaration = DECLARATION.format(', proxy="shipped_proxy:Half"')
    install("acme-near", [("near", "nearby:PLUGIN")], {"nearby.py": declaration})
    plugins = load("controller", near=True)
    assert plugins.names == ("near",)
    assert plugins.collect("maesh_sources") == []


def test_both_halves_may_be_one_object_and_take_no_settings(install):
    code = HALF + "    @hookimpl\n    def maesh_sources(self):\n        return [Told('here')]\n" + SOURCE
    declaration = DECLARATION.format(', controller="onesided:Half", proxy="onesided:Half"')
    install("acme-one", [("one", "onesided:PLUGIN")], {"onesided.py": declaration + code})
    for half in ("controller", "proxy"):
        assert [source.name for source in load(half, one=True).collect("maesh_sources")] == ["here"]


def test_what_several_plugins_give_is_joined_in_the_order_of_their_names(install):
    for name in ("zebra", "ant"):
        given = f"[Told('{name}'), Told('{name}2')]"
        code = HALF + f"    @hookimpl\n    def maesh_sources(self):\n        return {given}\n" + SOURCE
        declaration = DECLARATION.format(f', controller="animal_{name}:Half"')
        install(f"acme-{name}", [(name, f"animal_{name}:PLUGIN")], {f"animal_{name}.py": declaration + code})
    plugins = load(zebra=True, ant=True)
    assert plugins.names == ("ant", "zebra")
    found = plugins.collect("maesh_sources")
    assert [source.name for source in found] == ["ant", "ant2", "zebra", "zebra2"]
    labels = [f"plugin '{name}' (acme-{name} 1.0)" for name in ("ant", "ant", "zebra", "zebra")]
    assert [plugins.describe(source) for source in found] == labels
    assert plugins.describe(object()) == "builtins.object"


@pytest.mark.parametrize("half", ["controller", "proxy"])
def test_plugins_that_declare_access_control_are_the_guards_of_each_process(install, half):
    install("acme-guard", [("guard", "guarding:PLUGIN")], {"guarding.py": GUARD + HALF + "    pass\n"})
    install("acme-near", [("near", "nearby:PLUGIN")], {"nearby.py": DECLARATION.format("")})
    plugins = load(half, guard=True, near=True)
    assert (plugins.names, plugins.guards) == (("guard", "near"), ("guard",))
    assert load(half, near=True).guards == ()


# --- what may be wrong ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nobody", "retry", "acl"])
def test_switching_on_what_is_not_installed_lists_what_is(stamp, name):
    with pytest.raises(PluginError, match=rf"plugin '{name}' is not installed; .*stamp \(acme-stamp 1\.0\)"):
        load(**{name: True})


def test_switching_off_an_unknown_name_is_refused_as_well(stamp):
    with pytest.raises(PluginError, match="plugin 'nobody' is not installed"):
        load(nobody=False)


def test_error_quotes_where_the_switch_was_given():
    with pytest.raises(PluginError, match=r"^MAESH_PLUGINS: plugin 'nobody'"):
        resolve_enabled(list_installed(), {"nobody": True}, {"nobody": "MAESH_PLUGINS"})


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise RuntimeError('no\\n such luck')", "RuntimeError: no such luck"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("OTHER = 1", "AttributeError"),
    ],
)
def test_plugin_that_does_not_import_is_an_error_with_type_and_text(broken, code, words):
    assert words in broken(code)


def test_half_that_does_not_import_is_an_error_with_its_path(broken):
    text = broken(DECLARATION.format(', controller="oddity.gone:Half"'))
    assert "oddity.gone:Half" in text
    assert "ModuleNotFoundError" in text


@pytest.mark.parametrize("value", ["PLUGIN = 1", "PLUGIN = None", "class PLUGIN: pass"])
def test_entry_point_that_is_no_plugin_is_an_error(broken, value):
    assert "not a maesh_core.plugin.Plugin" in broken(value)


@pytest.mark.parametrize("half", ["", ', controller="oddity.half:Half"', ', proxy="oddity.half:Half"'])
def test_access_control_without_both_halves_is_an_error(broken, half):
    code = DECLARATION.format(f"{half}, is_access_control=True")
    assert "declares access control, which needs a controller and a proxy half" in broken(code)


def test_declaration_of_what_this_version_does_not_know_is_refused_with_that_name(broken):
    text = broken(DECLARATION.format(", is_something_new=True"))
    assert text.startswith("plugin 'odd' (acme-odd 2.5) cannot be imported from oddity:PLUGIN: TypeError: ")
    assert "is_something_new" in text


@pytest.mark.parametrize("version", [0, 2, "'1'"])
def test_plugin_for_another_hook_api_is_an_error_with_both_versions(broken, version):
    text = broken(DECLARATION.replace("=1", f"={version}").format(""))
    assert f"hook API version {str(version).strip(chr(39))}" in text
    assert "this is version 1" in text


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("    def __init__(self): raise KeyError('x')\n", "KeyError: 'x'"),
        ("    def __init__(self, settings): pass\n", "TypeError"),
        ("    def __new__(cls): return None\n", "returned None"),
        (
            "    @hookimpl\n    def maesh_surces(self): return []\n",
            ": there is no hook maesh_surces; did you mean maesh_sources?",
        ),
        ("    def maesh_surces(self): return []\n", ": there is no hook maesh_surces; did you mean maesh_sources?"),
        ("    @hookimpl\n    def maesh_unheard_of(self): return []\n", ": there is no hook maesh_unheard_of"),
        (
            "    @hookimpl\n    def maesh_sources(self, extra): return []\n",
            ": hook maesh_sources takes an argument extra; it is given none",
        ),
        (
            "    @hookimpl\n    def maesh_middleware_factories(self, nod): return []\n",
            ": hook maesh_middleware_factories takes an argument nod; it may take node",
        ),
        (
            "    @staticmethod\n    @hookimpl\n    def maesh_sources(extra): return []\n",
            ": hook maesh_sources takes an argument extra; it is given none",
        ),
        ("    def maesh_sources(self): return []\n", "maesh_sources is not marked with @hookimpl"),
    ],
)
def test_half_that_cannot_be_registered_is_an_error(broken, code, words):
    assert words in broken(*with_half(code))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise OSError('gone')", "maesh_sources raised OSError: gone"),
        ("from maesh_core.plugin import ConfigurationError as E; raise E('no file f')", "): no file f"),
        ("return None", "returned None, not a list or tuple"),
        ("return 'text'", "returned a str"),
        ("return {1}", "returned a set"),
        ("yield 1", "returned a generator"),
        ("return [object()]", "returned an object, which has no attribute name"),
        ("return ['text']", "returned a str, which has no attribute name, which a Source needs"),
        ("return [Told]", "returned a Told class, which has no attribute name"),
        ("return [Failing()]", "maesh_sources returned a Failing: RuntimeError: not now"),
    ],
)
def test_a_hook_that_fails_or_returns_no_sequence_is_an_error(broken, body, words):
    code = f"    @hookimpl\n    def maesh_sources(self):\n        {body}\n" + SOURCE
    failing = "class Failing:\n    @property\n    def name(self):\n        raise RuntimeError('not now')\n"
    assert words in broken(*with_half(code + failing))


def test_name_of_a_core_flag_is_a_problem_found_without_import(install):
    install("acme-loud", [("api-port", "loudness:PLUGIN")], {"loudness.py": DECLARATION.format("")})
    (problem,) = find_problems()
    assert problem.startswith("plugin 'api-port' (acme-loud 1.0) has a name that is a flag")
    assert not is_imported("loudness")


def test_name_that_two_distributions_register_is_a_problem_of_both(stamp, install):
    install("rival-stamp", [("stamp", "rival:PLUGIN")], {"rival.py": DECLARATION.format("")})
    for problem in find_problems():
        assert "registered by acme-stamp 1.0 and rival-stamp 1.0" in problem


@pytest.mark.parametrize("name", ["Stamp", "1st", "no-stamp", "st_amp", "zurück"])
def test_name_that_cannot_be_a_flag_is_a_problem(install, name):
    install("acme-named", [(name, "named:PLUGIN")], {"named.py": DECLARATION.format("")})
    (problem,) = find_problems()
    assert "acme-named 1.0" in problem


# --- settings of plugins -------------------------------------------------------------------------------------------


def test_settings_are_decoded_from_text_and_handed_to_the_half(stamp):
    raw = {"stamp": {"prefix": "Y-", "limit": "12", "names": "a, b"}}
    (builder,) = load("controller", raw, stamp=True).collect("maesh_middleware_builders")
    assert (builder.settings.prefix, builder.settings.limit, builder.settings.names) == ("Y-", 12, ("a", "b"))


def test_settings_that_are_not_given_keep_their_defaults(stamp):
    (builder,) = load(stamp=True).collect("maesh_middleware_builders")
    assert (builder.settings.prefix, builder.settings.limit) == ("X-", 3)


def test_unknown_setting_names_plugin_key_and_the_known_keys(stamp):
    with pytest.raises(SettingsError, match=r"acme-stamp.* no setting 'colour'; its settings are prefix, limit, names"):
        load("controller", {"stamp": {"colour": "red"}}, stamp=True)


@pytest.mark.parametrize("value", ["many", "", "1.5", True, [1]])
def test_setting_of_a_wrong_type_is_refused_with_its_origin(stamp, value):
    plugins = resolve_enabled(list_installed(), {"stamp": True})
    with pytest.raises(SettingsError, match=r"^--set stamp\.limit: .* is not a whole number .*acme-stamp"):
        load_plugins("proxy", plugins, {"stamp": {"limit": value}}, origins={"stamp.limit": "--set stamp.limit"})


def test_settings_for_a_plugin_that_takes_none_are_refused(install):
    install("acme-near", [("near", "nearby:PLUGIN")], {"nearby.py": DECLARATION.format("")})
    with pytest.raises(SettingsError, match="it has no settings"):
        load("controller", {"near": {"x": "1"}}, near=True)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("dict", "not a msgspec.Struct"),
        ("msgspec.defstruct('S', [('needed', int)])", "needs a default"),
    ],
)
def test_settings_that_are_no_struct_with_defaults_are_the_plugins_error(broken, settings, words):
    assert words in broken("import msgspec\n" + DECLARATION.format(f", settings={settings}"))


# --- laws ----------------------------------------------------------------------------------------------------------

NAMES = st.text("ab-1", min_size=1, max_size=4)


def make_plugin(name, distribution):
    return InstalledPlugin(
        name=name, distribution=distribution, version="1", summary="", is_default=False, path="module:PLUGIN"
    )


@given(names=st.lists(NAMES, max_size=6), core_flags=st.sets(NAMES, max_size=3))
def test_names_without_a_problem_are_flags_that_nobody_else_has(names, core_flags):
    installed = [make_plugin(name, f"distribution-{number}") for number, name in enumerate(names)]
    problems = find_name_problems(installed, core_flags)
    assert all(plugin.distribution in text for plugin, text in problems.items())
    usable = [plugin.name.replace("-", "") for plugin in installed if plugin not in problems]
    assert len(usable) == len(set(usable))
    assert not set(usable) & {flag.replace("-", "") for flag in core_flags}


@given(switches=st.dictionaries(st.sampled_from(["a", "b", "c"]), st.booleans()))
def test_every_switch_decides_for_its_plugin(switches):
    installed = [make_plugin(name, name) for name in ("a", "b", "c")]
    enabled = {plugin.name for plugin in resolve_enabled(installed, switches)}
    assert enabled == {name for name, is_on in switches.items() if is_on}


def test_loading_settings_and_plugins_imports_nothing_heavy():
    code = (
        "import sys, maesh_core.plugin_system.loading, maesh_core.settings.handover, maesh_core.process.logging_setup\n"
        "heavy = {'email', 'typer', 'click', 'pydantic', 'rich', 'aiohttp', 'yaml', 'watchfiles', 'asyncio'}\n"
        "print(*sorted(heavy & {name.partition('.')[0] for name in sys.modules}))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""
