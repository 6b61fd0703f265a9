"""Builds flags from settings classes and package metadata.

Takes a settings class and the installed plugins. Returns the signature from which typer reads the flags of a command,
the CommandLine of the user, and the resulting settings. Imports no plugin and checks no values.
"""

import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import typer

from maesh_core.cli.flag_groups import GENERAL, PLUGINS, group_fields
from maesh_core.errors import PluginError
from maesh_core.plugin_system.metadata import SHIPPED, find_name_problems
from maesh_core.settings import CommonSettings, InstalledPlugin
from maesh_core.settings.fields import SettingField, list_fields, normalise_name
from maesh_core.settings.loading import list_core_flags, load_settings
from maesh_core.settings.sources import MOVED, CommandLine

SettingsT = TypeVar("SettingsT", bound=CommonSettings)

_SWITCH = "switch_"
_FLAG = re.compile(r"(--?)([A-Za-z][A-Za-z0-9_-]+)(=.*)?", re.DOTALL)
_SHORT_FLAGS = {"recursive": "-R"}


def build_command(
    settings_class: type[SettingsT],
    run: Callable[[SettingsT], None],
    *,
    installed: Sequence[InstalledPlugin],
    takes_paths: bool = False,
) -> Callable[..., None]:
    """Build the function of a command. typer calls it according to its signature; it loads the settings and runs."""

    def command(**given: Any) -> None:
        for problem in find_name_problems(installed, list_core_flags()).values():
            raise PluginError(problem)
        run(resolve_settings(settings_class, given, installed))

    parameters = [_build_path_parameter()] if takes_paths else []
    parameters += build_parameters(settings_class, installed)
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__doc__ = run.__doc__
    return command


def resolve_settings(
    settings_class: type[SettingsT], given: Mapping[str, Any], installed: Sequence[InstalledPlugin]
) -> SettingsT:
    """Load the settings from a command's arguments, the environment and the file; prints warnings."""
    command_line = build_command_line(settings_class, given)
    loaded = load_settings(settings_class, command_line, environment=os.environ, installed=installed)
    for warning in loaded.warnings:
        print(f"maesh: warning: {warning}", file=sys.stderr)  # noqa: T201 - before there is a log
    return loaded.settings


def build_command_line(settings_class: type[CommonSettings], given: Mapping[str, Any]) -> CommandLine:
    """Sort typer's arguments into flags, switches and the rest. `--smi` means `--acl`, but `--no-smi` is a switch."""
    switches = {
        name.removeprefix(_SWITCH).replace("__", "-"): is_on
        for name, is_on in given.items()
        if name.startswith(_SWITCH)
    }
    is_smi = bool(switches.get("smi"))
    if is_smi:
        del switches["smi"]
    return CommandLine(
        values={field.name: given.get(field.name) for field in list_fields(settings_class)},
        switches=switches,
        plugin_settings=tuple(given.get("set_") or ()),
        config_file=given.get("config_file"),
        moved={flag: text for flag in MOVED if (text := given.get(flag.replace("-", "_"))) is not None},
        is_smi=is_smi,
        is_debug=bool(given.get("debug")),
        paths=tuple(given.get("paths") or ()),
    )


def build_parameters(
    settings_class: type[CommonSettings], installed: Sequence[InstalledPlugin]
) -> list[inspect.Parameter]:
    """Build a command's flags by group: its own first, then those of plugins, then those of every command."""
    groups = group_fields(list_fields(settings_class))
    general = groups.pop(GENERAL)
    own = [_build_field_parameter(field, title) for title, fields in groups.items() for field in fields]
    shared = [_build_field_parameter(field, GENERAL) for field in general]
    return [*own, *build_plugin_parameters(installed), *shared, *_build_other_parameters()]


def build_plugin_parameters(installed: Sequence[InstalledPlugin]) -> list[inspect.Parameter]:
    """Build the flags of plugins. Those of shipped plugins that are not installed are hidden, and refused later."""
    problems = find_name_problems(installed, list_core_flags())
    usable = {plugin.name: plugin for plugin in installed if plugin not in problems}
    shown = [_build_switch(name, _describe_plugin(plugin)) for name, plugin in usable.items()]
    hidden = [_build_switch(name, "Not installed.", is_hidden=True) for name in sorted(SHIPPED - set(usable))]
    set_ = typer.Option(
        None,
        "--set",
        metavar="NAME.KEY=VALUE",
        help="Setting of a plugin; repeatable. [env: MAESH_NAME_KEY]",
        rich_help_panel=PLUGINS,
    )
    return [*shown, *hidden, _build_parameter("set_", list[str] | None, set_)]


def _describe_plugin(plugin: InstalledPlugin) -> str:
    summary = f": {plugin.summary.rstrip('.')}." if plugin.summary else "."
    state = "on" if plugin.is_default else "off"
    return f"Plugin of {plugin.distribution} {plugin.version}{summary} [env: MAESH_PLUGINS] [default: {state}]"


def _build_path_parameter() -> inspect.Parameter:
    # Hidden, because the list would show a Python type beside it. The text of the command explains PATH.
    argument = typer.Argument(default=None, metavar="PATH...", hidden=True)
    return _build_parameter("paths", list[str] | None, argument)


def _build_field_parameter(field: SettingField, title: str) -> inspect.Parameter:
    flag = f"{field.flag}/--no-{field.flag[2:]}" if field.is_switch else field.flag
    short = _SHORT_FLAGS.get(field.name)
    option = typer.Option(
        None,
        *([short] if short else []),
        flag,
        help=describe_field(field),
        metavar=field.placeholder or None,
        show_default=False,
        rich_help_panel=title,
        autocompletion=_build_completion(field.placeholder.split("|")),
    )
    if field.is_switch:
        return _build_parameter(field.name, bool | None, option)
    return _build_parameter(field.name, list[str] | None if field.is_list else str | None, option)


def _build_completion(choices: Sequence[str]) -> Callable[[str], list[str]] | None:
    """Build what a shell's completion asks for values; None if any value may be given."""

    def complete(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    return complete if len(choices) > 1 else None


def describe_field(field: SettingField) -> str:
    """Describe a flag for the help text: its meaning, variable and default."""
    default = f" [default: {field.default_text}]" if field.default_text else ""
    return f"{field.description} [env: {field.variable}]{default}"


def _build_switch(name: str, text: str, *, is_hidden: bool = False) -> inspect.Parameter:
    option = typer.Option(
        None, f"--{name}/--no-{name}", help=text, show_default=False, hidden=is_hidden, rich_help_panel=PLUGINS
    )
    return _build_parameter(f"{_SWITCH}{name}", bool | None, option)


def _build_other_parameters() -> list[inspect.Parameter]:
    config_file = typer.Option(
        None,
        "--config-file",
        metavar="FILE",
        help="Read settings from this TOML file. [env: MAESH_CONFIG_FILE]",
        rich_help_panel=GENERAL,
    )
    debug = typer.Option(False, "--debug", help="Old name of --log-level debug.", hidden=True)  # noqa: FBT003
    moved = [
        _build_parameter(
            flag.replace("-", "_"),
            str | None,
            typer.Option(None, f"--{flag}", help=f"Old name of --set {plugin}.{key}.", hidden=True),
        )
        for flag, (plugin, key) in MOVED.items()
    ]
    return [
        *moved,
        _build_parameter("config_file", str | None, config_file),
        _build_parameter("debug", bool, debug),
    ]


def _build_parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    # The name of a plugin may contain dashes, but that of a parameter may not.
    safe = name.replace("-", "__")
    return inspect.Parameter(safe, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def collect_flags(installed: Sequence[InstalledPlugin]) -> frozenset[str]:
    """Collect the flags of all commands, without the leading dashes."""
    names = {plugin.name for plugin in installed} | SHIPPED
    return list_core_flags() | names | {f"no-{name}" for name in names}


def normalise_arguments(arguments: Sequence[str], flags: frozenset[str]) -> list[str]:
    """Convert flags to their canonical spelling; other arguments stay unchanged."""
    canonical = {normalise_name(flag): flag for flag in sorted(flags)}
    found = list(arguments)
    for index, argument in enumerate(found):
        if argument == "--":
            break
        match = _FLAG.fullmatch(argument)
        flag = canonical.get(normalise_name(match[2])) if match else None
        if match is not None and flag is not None:
            found[index] = f"--{flag}{match[3] or ''}"
    return found
