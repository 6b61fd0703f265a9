"""The typer application: combines the commands, and turns each expected error into one line and an exit status.

Takes the arguments after `maesh`. Returns the exit status: 0 for success, 1 for failure, 2 for invalid usage. Contains
no logic of a command.
"""

import os
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated

import typer

from maesh_core.cli.options import collect_flags, normalise_arguments
from maesh_core.cli.plugin_commands import add_groups, find_plugins
from maesh_core.cli.programs import COMPLETION_VARIABLE, PROGRAM, print_error
from maesh_core.cli.version import print_version
from maesh_core.errors import MaeshError
from maesh_core.plugin_system.metadata import list_installed
from maesh_core.settings import InstalledPlugin

COMMANDS = (
    *("up", "controller", "proxy", "prepare", "cleanup"),
    *("check", "explain", "diff", "simulate", "status"),
    *("top", "tap", "dashboard", "convert", "plugins", "version"),
)
"""In the order of the help text. Each is a module in this package with a function `add_command`."""


def run_command_line(arguments: Sequence[str]) -> int:
    """Run one command line, and print its error if it fails."""
    try:
        installed = list_installed()
        if COMPLETION_VARIABLE in os.environ:
            import_module("maesh_core.cli.completion").prepare_answer()
        with_commands = [plugin for plugin in find_plugins(installed, COMMANDS) if plugin.name in arguments[:1]]
        if with_commands:
            application = build_application(installed, ())
            add_groups(application, with_commands, is_loading=True)
        else:
            application = build_application(installed, choose_commands(arguments))
        application(args=normalise_arguments(arguments, collect_flags(installed)), prog_name=PROGRAM)
    except MaeshError as error:
        print_error(str(error))
        return 1
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def build_application(installed: Sequence[InstalledPlugin], names: Sequence[str] = COMMANDS) -> typer.Typer:
    """Build the application with these commands and the flags of the installed plugins."""
    application = typer.Typer(
        name=PROGRAM,
        help="A simple service mesh: a controller, a proxy on each node, and plugins that you install with pip.",
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        invoke_without_command=True,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    )
    application.callback()(_start)
    for name in names:
        import_module(f"maesh_core.cli.{name}").add_command(application, installed)
    if len(names) > 1:
        add_groups(application, find_plugins(installed, COMMANDS), is_loading=False)
    return application


def choose_commands(arguments: Sequence[str]) -> Sequence[str]:
    """Choose the commands to build: the one that is called, or all of them for help and suggestions.

    Building the flags of all commands would take half of the time of `maesh version`.
    """
    return [name for name in COMMANDS if name in arguments[:1]] or COMMANDS


def _start(
    context: typer.Context,
    is_version: Annotated[bool, typer.Option("--version", help="Show versions and exit.")] = False,  # noqa: FBT002
    installs_completion: Annotated[  # noqa: FBT002
        bool, typer.Option("--install-completion", help="Install completion for the current shell and exit.")
    ] = False,
    shell: Annotated[
        str | None,
        typer.Option("--show-completion", metavar="bash|zsh|fish", help="Print a shell's completion script and exit."),
    ] = None,
) -> None:
    if is_version:
        print_version(list_installed())
        raise typer.Exit
    if installs_completion or shell is not None:
        completion = import_module("maesh_core.cli.completion")
        print(completion.install_script() if shell is None else completion.render_script(shell))  # noqa: T201
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())  # noqa: T201 - what was asked for
