"""The commands of plugins: `maesh PLUGIN COMMAND`.

A plugin names its commands in its package metadata, in the group `maesh.commands`; only the plugin that is called is
imported. Opens the APIs of the controllers as `maesh status` does, runs the command, and prints its text or JSON.
"""

import importlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import typer

from maesh_core.cli.flag_groups import MAIN, GroupedCommand
from maesh_core.cli.options import build_parameters, resolve_settings
from maesh_core.errors import PluginError
from maesh_core.plugin_system.commands import (
    Command,
    CommandArgument,
    CommandOption,
    CommandResult,
    CommandSwitch,
    CommandValues,
)
from maesh_core.plugin_system.metadata import list_installed
from maesh_core.process.logging_setup import configure_logging
from maesh_core.process.printable import show_lines
from maesh_core.settings import InstalledPlugin, ManifestCommandSettings, PluginCommandSettings

MANIFESTS = CommandOption(
    name="manifests",
    metavar="PATH",
    text="Read these manifests instead of querying a controller; repeatable.",
    is_repeatable=True,
)
"""The flag of commands that also read manifests."""


def add_groups(application: typer.Typer, installed: Sequence[InstalledPlugin], *, is_loading: bool) -> None:
    """Add a group for each of these plugins, with its commands if `is_loading`, otherwise only for the help."""
    for plugin in installed:
        group = typer.Typer(help=f"{plugin.summary.rstrip('.')}.", rich_markup_mode=None, no_args_is_help=True)
        group.callback()(lambda: None)
        for command in load_commands(plugin) if is_loading else ():
            group.command(command.name, cls=GroupedCommand)(build_function(command, plugin))
        application.add_typer(group, name=plugin.name)


def find_plugins(installed: Sequence[InstalledPlugin], core: Sequence[str]) -> list[InstalledPlugin]:
    """List the plugins that have commands. One with the name of a core command, or of another plugin, has none."""
    names = [plugin.name for plugin in installed]
    return [each for each in installed if each.commands and each.name not in core and names.count(each.name) == 1]


def load_commands(plugin: InstalledPlugin) -> Sequence[Command]:
    """Import the commands of a plugin. Raises PluginError."""
    module, _, attribute = plugin.commands.partition(":")
    try:
        commands: Sequence[Command] = getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:  # importing runs a plugin's code, which may raise anything
        text = f"{plugin.label}: its commands {plugin.commands} cannot be imported: {type(error).__name__}: {error}"
        raise PluginError(text) from error
    return commands


def build_function(command: Command, plugin: InstalledPlugin) -> Callable[..., None]:
    """Build the function of a command, which typer calls according to its signature."""
    reads_manifests = getattr(command, "reads_manifests", False)
    options: Sequence[CommandOption] = getattr(command, "options", ())
    settings_class = ManifestCommandSettings if reads_manifests else PluginCommandSettings
    installed = list_installed() if reads_manifests else (plugin,)

    def function(**given: Any) -> None:
        names = [*(each.name for each in command.arguments), *(each.name for each in command.switches)]
        values: dict[str, str | bool | tuple[str, ...]] = {
            name: given.pop(_name_parameter(name)) or "" for name in names
        }
        for option in options:
            found = given.pop(_name_parameter(option.name))
            values[option.name] = tuple(found or ()) if option.is_repeatable else found or ""
        manifests = tuple(given.pop(_name_parameter(MANIFESTS.name), None) or ())
        settings = resolve_settings(settings_class, given, installed)
        result = run_command(command, settings, values, manifests=manifests, plugin=plugin)
        shown = msgspec.json.encode(result.document).decode() if settings.json else show_lines(result.text)
        print(shown)  # noqa: T201 - what was asked for
        if result.status:
            raise typer.Exit(result.status)

    parameters = [_build_argument(each) for each in command.arguments]
    parameters += [_build_switch(each) for each in command.switches]
    parameters += [_build_option(each) for each in (*options, *((MANIFESTS,) if reads_manifests else ()))]
    parameters += build_parameters(settings_class, installed)
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__doc__ = command.text
    return function


def run_command(
    command: Command,
    settings: PluginCommandSettings,
    values: CommandValues,
    *,
    manifests: tuple[str, ...] = (),
    plugin: InstalledPlugin | None = None,
) -> CommandResult:
    """Open the APIs of the controllers, or build one from manifests, and run the command. Raises MaeshError."""
    configure_logging(settings.log_level, settings.log_format)
    from maesh_core.cli.running import run_to_end  # asyncio and aiohttp, only for these commands
    from maesh_core.controller.api_clients.controllers import ApiAccess, open_apis

    async def run() -> CommandResult:
        if manifests and isinstance(settings, ManifestCommandSettings):
            from maesh_core.cli.manifests_api import build_manifests_api

            return await command.run([await build_manifests_api(settings, manifests, plugin)], values)
        async with open_apis(
            settings.endpoint,
            kubeconfig=settings.kubeconfig,
            master_url=settings.master_url,
            namespace=settings.namespace,
            access=ApiAccess.from_settings(settings),
        ) as apis:
            return await command.run(apis, values)

    return run_to_end(run, stopped="stopped before the controller had answered")


def _build_argument(argument: CommandArgument) -> inspect.Parameter:
    info = typer.Argument(
        ... if argument.is_required else "", metavar=argument.name.upper(), help=argument.text, show_default=False
    )
    return _build_parameter(argument.name, str, info)


def _build_switch(switch: CommandSwitch) -> inspect.Parameter:
    info = typer.Option(False, f"--{switch.name}", help=switch.text, rich_help_panel=MAIN)  # noqa: FBT003
    return _build_parameter(switch.name, bool, info)


def _build_option(option: CommandOption) -> inspect.Parameter:
    info = typer.Option(
        None, f"--{option.name}", metavar=option.metavar, help=option.text, show_default=False, rich_help_panel=MAIN
    )
    return _build_parameter(option.name, list[str] | None if option.is_repeatable else str | None, info)


def _build_parameter(name: str, annotation: Any, info: Any) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(_name_parameter(name), kind, default=info, annotation=annotation)


def _name_parameter(name: str) -> str:
    return f"of_command_{name.replace('-', '_')}"
