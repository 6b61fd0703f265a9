"""The three sources of settings, each read into one layer: command line, environment, file.

Takes raw flags, variables or the text of a TOML file. Returns a Layer: raw values with their origins, of which only the
names are checked. Does not merge layers. Does not depend on the command, because several commands may use the same file
and environment.
"""

import os
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import msgspec

from maesh_core.compiled import PURE_VARIABLE
from maesh_core.errors import SettingsError
from maesh_core.settings.fields import SettingField, normalise_name
from maesh_core.settings.handover import INTERNAL_VARIABLES
from maesh_core.values.parsing import parse_switch

PREFIXES = ("TRAEFIK_MESH_", "MAESH_")
"""Prefixes of variables; the last one has priority (traefik/mesh 1.4 used the first)."""

_SERVICE_LINK_NAME = re.compile(r".*_SERVICE_(HOST|PORT(_.+)?)|.*_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?")
_SERVICE_LINK_VALUE = re.compile(r"(tcp|udp|sctp)://\S+:\d+")


MOVED = {"limit-udp-port": ("udp", "limit")}
"""Flags of Maesh 1.2 that are now settings of a plugin."""
_MOVED = {normalise_name(flag): slot for flag, slot in MOVED.items()}


class Given(msgspec.Struct, frozen=True):
    """A raw value and its origin, as error texts name it."""

    raw: Any
    origin: str


class Layer(msgspec.Struct, kw_only=True):
    """The settings of one source. Plugin settings are keyed by plugin and normalised key, with the key as written."""

    values: dict[str, Given] = {}
    switches: dict[str, Given] = {}
    plugin_settings: dict[tuple[str, str], tuple[str, Given]] = {}
    config_file: Given | None = None
    warnings: list[str] = []


class CommandLine(msgspec.Struct, frozen=True, kw_only=True):
    """The command line. `values` are raw values of flags by field name, None or empty if a flag was not given."""

    values: Mapping[str, Any] = {}
    switches: Mapping[str, bool | None] = {}
    plugin_settings: tuple[str, ...] = ()
    config_file: str | None = None
    is_smi: bool = False
    is_debug: bool = False
    moved: Mapping[str, str] = {}
    """Values of flags of `MOVED`."""
    paths: tuple[str, ...] = ()


class Names(msgspec.Struct, frozen=True, kw_only=True):
    """The names that a source may use: fields by normalised name, and plugins."""

    fields: Mapping[str, SettingField]
    plugins: Collection[str]

    def find_plugin(self, name: str) -> str | None:
        """Find a plugin by its name in any spelling."""
        wanted = normalise_name(name)
        return next((plugin for plugin in self.plugins if normalise_name(plugin) == wanted), None)


def read_command_line(command_line: CommandLine, names: Names) -> Layer:
    """Read the command line."""
    layer = Layer()
    flags = {field.name: field.flag for field in names.fields.values()}
    for name, raw in command_line.values.items():
        if raw is None or raw in ([], ()):
            continue
        joined = ",".join(raw) if isinstance(raw, (list, tuple)) else raw
        flag = flags[name]
        layer.values[name] = Given(joined, f"--no-{flag[2:]}" if raw is False else flag)
    for name, is_on in command_line.switches.items():
        if is_on is not None:
            layer.switches[name] = Given(is_on, f"--{name}" if is_on else f"--no-{name}")
    for text in command_line.plugin_settings:
        _read_set(text, layer)
    for flag, text in command_line.moved.items():
        _apply_moved(flag, Given(text, f"--{flag}"), layer)
    if command_line.is_smi:
        _apply_deprecated("smi", Given(True, "--smi"), layer)  # noqa: FBT003 - a raw value
    if command_line.is_debug:
        _apply_deprecated("debug", Given(True, "--debug"), layer)  # noqa: FBT003
    if command_line.config_file:
        layer.config_file = Given(command_line.config_file, "--config-file")
    return layer


def _read_set(text: str, layer: Layer) -> None:
    name, _, rest = text.partition(".")
    key, equals, value = rest.partition("=")
    if not (name.strip() and key.strip() and equals):
        raise SettingsError(f"--set: {text!r} is not NAME.KEY=VALUE")
    key = key.strip()
    slot = (name.strip().lower(), normalise_name(key))
    layer.plugin_settings[slot] = (key, Given(value, f"--set {name.strip()}.{key}"))


def _apply_moved(name: str, given: Given, layer: Layer) -> None:
    """Set a setting that now belongs to a plugin, unless it is also given by its new name."""
    slot = _MOVED[normalise_name(name)]
    layer.plugin_settings.setdefault(slot, (slot[1], given))


def _apply_deprecated(name: str, given: Given, layer: Layer) -> None:
    """Apply `smi` or `debug` with their meaning in Maesh 1.2, and warn with the new name."""
    better = "--acl" if name == "smi" else "--log-level debug"
    layer.warnings.append(f"{given.origin} is deprecated: use {better}")
    if not _parse_given_switch(given):
        if name == "smi":
            layer.switches.setdefault("smi", Given(False, given.origin))  # noqa: FBT003
    elif name == "smi":
        layer.switches.setdefault("acl", Given(True, f"{given.origin}, the old name of --acl"))  # noqa: FBT003
    else:
        layer.values.setdefault("log_level", Given("debug", given.origin))


def _parse_given_switch(given: Given) -> bool:
    try:
        return parse_switch(given.raw)
    except ValueError as error:
        raise SettingsError(f"{given.origin}: {given.raw!r} is not {error}") from error


def read_environment(environment: Mapping[str, str], names: Names) -> Layer:
    """Read the variables with a prefix. Empty ones count as not set; unknown ones cause a warning."""
    layer = Layer()
    unknown = []
    for rest, given in _list_variables(environment):
        if not _apply_variable(rest, given, layer, names):
            unknown.append(given.origin)
    for deprecated in ("smi", "debug"):
        for rest, given in _list_variables(environment):
            if normalise_name(rest) == deprecated:
                _apply_deprecated(deprecated, given, layer)
    if unknown:
        layer.warnings.append(f"unknown environment variables: {', '.join(sorted(unknown))}")
    return layer


def _list_variables(environment: Mapping[str, str]) -> list[tuple[str, Given]]:
    """List the name of each variable without its prefix; the one with priority is last."""
    found = []
    for prefix in PREFIXES:
        for name in sorted(environment):
            upper = name.upper().replace("-", "_")
            is_ours = upper.startswith(prefix) and upper not in INTERNAL_VARIABLES | {PURE_VARIABLE}
            if is_ours and environment[name].strip() and not _is_service_link(upper, environment[name]):
                found.append((upper.removeprefix(prefix), Given(environment[name], name)))
    return found


def _is_service_link(name: str, value: str) -> bool:
    """Whether Kubernetes set the variable for a Service (here, one whose name begins with `maesh`)."""
    if _SERVICE_LINK_NAME.fullmatch(name):
        return True
    return name.endswith("_PORT") and _SERVICE_LINK_VALUE.fullmatch(value) is not None


def _apply_variable(rest: str, given: Given, layer: Layer, names: Names) -> bool:
    """Add a variable to the layer; False if nothing has this name."""
    name = normalise_name(rest)
    field = names.fields.get(name)
    if field is not None:
        _refuse_contradiction(layer.values.get(field.source_name), given)
        layer.values[field.source_name] = given
    elif name == "configfile":
        layer.config_file = given
    elif name == "plugins":
        for item in given.raw.split(","):
            _apply_listed_switch(item, given.origin, layer, names)
    elif name in _MOVED:
        _apply_moved(name, given, layer)
    elif name in ("smi", "debug"):
        return True
    elif (switched := names.find_plugin(rest)) is not None:
        layer.switches[switched] = Given(_parse_given_switch(given), given.origin)
    else:
        return _apply_plugin_variable(rest, given, layer, names)
    return True


def _refuse_contradiction(earlier: Given | None, given: Given) -> None:
    """Refuse two spellings of one name, with the same prefix, that have different values."""
    if earlier is None or earlier.raw == given.raw:
        return
    if _find_prefix(earlier.origin) == _find_prefix(given.origin):
        raise SettingsError(f"{earlier.origin} and {given.origin} set the same setting to different values")


def _find_prefix(variable: str) -> str:
    upper = variable.upper().replace("-", "_")
    return next(prefix for prefix in PREFIXES if upper.startswith(prefix))


def _apply_listed_switch(item: str, origin: str, layer: Layer, names: Names) -> None:
    word = item.strip().lower()
    if not word:
        return
    name = word.removeprefix("no-")
    # The variable of a plugin (MAESH_ACL) has priority over the list.
    layer.switches.setdefault(names.find_plugin(name) or name, Given(not word.startswith("no-"), origin))


def _apply_plugin_variable(rest: str, given: Given, layer: Layer, names: Names) -> bool:
    """Read `NAME_KEY`. If two plugins match (`udp`, `udp-extra`), the longer name is used."""
    for plugin in sorted(names.plugins, key=len, reverse=True):
        prefix = plugin.upper().replace("-", "_") + "_"
        if rest.startswith(prefix) and len(rest) > len(prefix):
            key = rest.removeprefix(prefix).lower()
            layer.plugin_settings[plugin, normalise_name(key)] = (key, given)
            return True
    return False


def read_file(given: Given, names: Names) -> Layer:
    """Read the settings file; raises SettingsError that names the file and the key."""
    path = os.fspath(given.raw)
    document = _load_toml(path, given.origin)
    layer = Layer()
    for key, raw in document.items():
        _apply_key(key, Given(raw, f"{path}: {key}"), layer, names)
    return layer


def _load_toml(path: str, origin: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise SettingsError(f"{origin}: {path!r} cannot be read: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{origin}: {path!r} is not TOML: {error}") from error


def _apply_key(key: str, given: Given, layer: Layer, names: Names) -> None:
    name = normalise_name(key)
    field = names.fields.get(name)
    plugin = names.find_plugin(key)
    if name == "plugins" and isinstance(given.raw, dict):
        for item, raw in given.raw.items():
            switch = Given(raw, f"{given.origin}.{item}")
            layer.switches[names.find_plugin(item) or item] = Given(_parse_given_switch(switch), switch.origin)
    elif field is not None:
        earlier = layer.values.get(field.source_name)
        if earlier is not None:
            raise SettingsError(f"{earlier.origin} and {key} set the same setting")
        layer.values[field.source_name] = given
    elif plugin is not None and isinstance(given.raw, dict):
        for item, raw in given.raw.items():
            layer.plugin_settings[plugin, normalise_name(item)] = (item, Given(raw, f"{given.origin}.{item}"))
    elif name in _MOVED:
        _apply_moved(name, given, layer)
    elif name in ("smi", "debug"):
        _apply_deprecated(name, given, layer)
    elif plugin is not None:
        layer.switches.setdefault(plugin, Given(_parse_given_switch(given), given.origin))
    else:
        raise SettingsError(f"{given.origin}: unknown key{_suggest(key, names)}")


def _suggest(key: str, names: Names) -> str:
    keys: Iterable[str] = [field.key for field in names.fields.values()]
    close = get_close_matches(key.replace("_", "-").lower(), [*keys, *names.plugins, "plugins"], n=1)
    return f"; did you mean {close[0]}?" if close else ""
