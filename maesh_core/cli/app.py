"""The typer application: joins the commands, and turns every expected error into one line and a status.

Takes the arguments behind `maesh`. Gives the exit status: 0, 1 for what could not be done, 2 for bad usage. Holds no
command's logic.
"""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from maesh_core.cli import cleanup, controller, explain, plugins, prepare, proxy, status, up, version
from maesh_core.cli.options import collect_flags, normalise_arguments
from maesh_core.errors import MaeshError
from maesh_core.plugin_metadata import list_installed
from maesh_core.printable import show_line
from maesh_core.settings import InstalledPlugin

PROGRAM = "maesh"


def run_command_line(arguments: Sequence[str]) -> int:
    """Run one command line to its end; prints errors."""
    try:
        installed = list_installed()
        application = build_application(installed)
        application(args=normalise_arguments(arguments, collect_flags(installed)), prog_name=PROGRAM)
    except MaeshError as error:
        print_error(str(error))
        return 1
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def print_error(text: str) -> None:
    """Print the one line with which a command that failed ends."""
    print(f"{PROGRAM}: error: {show_line(text)}", file=sys.stderr)  # noqa: T201 - a command's own output


def build_application(installed: Sequence[InstalledPlugin]) -> typer.Typer:
    """Build the application with the flags of the installed plugins."""
    application = typer.Typer(
        name=PROGRAM,
        help="A simpler service mesh: a controller, pulling proxies, and plugins you install with pip.",
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        invoke_without_command=True,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    )
    application.callback()(_start)
    for command in (up, controller, proxy, prepare, cleanup, explain, status, plugins, version):
        command.add_command(application, installed)
    return application


def _start(
    context: typer.Context,
    is_version: Annotated[bool, typer.Option("--version", help="Show versions and end.")] = False,  # noqa: FBT002
) -> None:
    if is_version:
        version.print_version(list_installed())
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())  # noqa: T201 - what was asked for
