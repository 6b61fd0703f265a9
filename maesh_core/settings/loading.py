"""Merges flags, environment, file and defaults, in this order of priority, into a class of settings/__init__.py.

Takes the command line, the environment and the installed plugins. Returns checked settings and warnings, or raises
SettingsError: one line with the origin, the value and the rule.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from maesh_core.errors import SettingsError
from maesh_core.plugin_system.metadata import SHIPPED, describe_missing, resolve_enabled
from maesh_core.settings import (
    CleanupSettings,
    CommonSettings,
    ControllerSettings,
    DashboardSettings,
    ExplainSettings,
    InstalledPlugin,
    PluginsSettings,
    PrepareSettings,
    ProxySettings,
    StatusSettings,
    UpSettings,
)
from maesh_core.settings.check import CheckSettings
from maesh_core.settings.fields import SettingField, list_fields, normalise_name
from maesh_core.settings.sources import (
    MOVED,
    CommandLine,
    Given,
    Layer,
    Names,
    read_command_line,
    read_environment,
    read_file,
)
from maesh_core.settings.states import DiffSettings, SimulateSettings
from maesh_core.settings.traffic import TapSettings, TopSettings
from maesh_core.values.parsing import parse_value

SETTINGS_CLASSES: tuple[type[CommonSettings], ...] = (
    UpSettings,
    ControllerSettings,
    ProxySettings,
    CheckSettings,
    ExplainSettings,
    DiffSettings,
    SimulateSettings,
    StatusSettings,
    TopSettings,
    TapSettings,
    DashboardSettings,
    PluginsSettings,
    PrepareSettings,
    CleanupSettings,
)

_OTHER_FLAGS = (
    "help",
    "version",
    "set",
    "config-file",
    "debug",
    "plugins",
    "paths",
    "port",
    "header",
    "manifests",
    *MOVED,
)

SettingsT = TypeVar("SettingsT", bound=CommonSettings)


class Loaded(msgspec.Struct, Generic[SettingsT], frozen=True):
    """Settings, and what the user should know about how they were given."""

    settings: SettingsT
    warnings: tuple[str, ...] = ()


def list_core_flags() -> frozenset[str]:
    """Name every flag of the core, without dashes in front: no plugin may take one."""
    keys = {field.flag[2:] for settings_class in SETTINGS_CLASSES for field in list_fields(settings_class)}
    return frozenset(keys | {f"no-{key}" for key in keys} | set(_OTHER_FLAGS))


def load_settings(
    settings_class: type[SettingsT],
    command_line: CommandLine,
    *,
    environment: Mapping[str, str],
    installed: Sequence[InstalledPlugin],
) -> Loaded[SettingsT]:
    """Merge the sources into settings; raises SettingsError or PluginError."""
    names = _collect_names(installed)
    layers = [read_command_line(command_line, names), read_environment(environment, names)]
    config_file = next((layer.config_file for layer in layers if layer.config_file is not None), None)
    if config_file is not None:
        layers.append(read_file(config_file, names))
    values: dict[str, Any] = {
        field.name: _parse_given(given, field)
        for field in list_fields(settings_class)
        if (given := _find_first(layers, field)) is not None
    }
    values.update(_merge_plugins(layers, installed))
    if command_line.paths:
        values["paths"] = command_line.paths
    return Loaded(settings_class(**values), tuple(warning for layer in layers for warning in layer.warnings))


def _collect_names(installed: Sequence[InstalledPlugin]) -> Names:
    fields = {normalise_name(field.source_name): field for class_ in SETTINGS_CLASSES for field in list_fields(class_)}
    return Names(fields=fields, plugins=sorted(SHIPPED | {plugin.name for plugin in installed}))


def _find_first(layers: Sequence[Layer], field: SettingField) -> Given | None:
    """Find the value of the source with the highest priority: the command line, whose layer has the names of flags."""
    names = [field.name, *[field.source_name] * (len(layers) - 1)]
    return next((layer.values[name] for layer, name in zip(layers, names, strict=True) if name in layer.values), None)


def _parse_given(given: Given, field: SettingField) -> Any:
    try:
        return parse_value(given.raw, field.type)
    except ValueError as error:
        raise SettingsError(f"{given.origin}: {given.raw!r} is not {error}") from error


def _merge_plugins(layers: Sequence[Layer], installed: Sequence[InstalledPlugin]) -> dict[str, Any]:
    """Merge switches and plugin settings; settings of disabled plugins are omitted."""
    switches: dict[str, Given] = {}
    given_settings: dict[tuple[str, str], tuple[str, Given]] = {}
    for layer in reversed(layers):
        switches.update(layer.switches)
        given_settings.update(layer.plugin_settings)
    plugins = resolve_enabled(
        installed,
        {name: given.raw for name, given in switches.items()},
        {name: given.origin for name, given in switches.items()},
    )
    enabled = {plugin.name for plugin in plugins}
    for name, _ in layers[0].plugin_settings:
        if name not in enabled:
            raise SettingsError(_describe_unused_set(name, layers[0], installed))
    settings: dict[str, dict[str, Any]] = {}
    origins: dict[str, str] = {}
    for (name, _), (key, given) in given_settings.items():
        if name in enabled:
            settings.setdefault(name, {})[key] = given.raw
            origins[f"{name}.{key}"] = given.origin
    return {"plugins": plugins, "plugin_settings": settings, "origins": origins}


def _describe_unused_set(name: str, layer: Layer, installed: Sequence[InstalledPlugin]) -> str:
    origin = next(given.origin for (plugin, _), (_, given) in layer.plugin_settings.items() if plugin == name)
    if name in {plugin.name for plugin in installed}:
        return f"{origin}: plugin '{name}' is not enabled; --{name} enables it"
    return describe_missing(name, installed, origin=origin)
