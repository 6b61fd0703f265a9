"""`maesh tap`: the requests of the mesh, or of one service, as they happen, one line each.

Follows `/api/tap` of one controller, and of another one if that is lost. Imports aiohttp only when the command runs.
Ends with status 0 at Ctrl-C and after --limit records, and with 1 if there is no such service or no controller is left.
"""

import inspect
import os
import sys
from collections.abc import Sequence
from typing import Any

import typer

from maesh_core.cli.flag_groups import GroupedCommand
from maesh_core.cli.options import build_parameters, resolve_settings
from maesh_core.cli.running import run_until_signalled
from maesh_core.process.logging_setup import configure_logging
from maesh_core.settings import InstalledPlugin
from maesh_core.settings.traffic import TapSettings


def add_command(application: typer.Typer, installed: Sequence[InstalledPlugin]) -> None:
    """Add the command to the application."""

    def command(**given: Any) -> None:
        """Show the requests to all services, or to SERVICE, as they end.

        Write SERVICE as name.namespace, namespace/name or name, with :PORT for one of its ports. With --endpoint, the
        command follows this controller. Otherwise it follows one of the cluster's controllers through the API server,
        or http://127.0.0.1:9000 if there is no cluster. Ctrl-C ends it.
        """
        service = given.pop("service")
        run(resolve_settings(TapSettings, given, installed), service)

    argument = typer.Argument(None, metavar="SERVICE", help="Service to watch.", show_default=False)
    parameter = inspect.Parameter("service", inspect.Parameter.KEYWORD_ONLY, default=argument, annotation=str | None)
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [parameter, *build_parameters(TapSettings, installed)]
    )
    application.command("tap", cls=GroupedCommand)(command)


def run(settings: TapSettings, service: str | None) -> None:
    """Show requests until a signal, the limit, or the end of the last controller."""
    configure_logging(settings.log_level, settings.log_format)
    from maesh_core.cli.tap.following import follow_until_stopped  # aiohttp, only for this command
    from maesh_core.cli.tap.lines import LinePrinter

    is_coloured = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb" and not os.environ.get("NO_COLOR")
    printer = LinePrinter(is_json=settings.json, is_coloured=is_coloured, shows_service=service is None)
    try:
        run_until_signalled(lambda stop: follow_until_stopped(settings, service, printer, stop))
    except BrokenPipeError:  # the reader of the output has ended, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
