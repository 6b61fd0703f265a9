"""`maesh top`: the services of the mesh by rate, success, durations and refusals, live in a terminal.

Reads the measured traffic of one controller (`/api/traffic`) again and again, or once with --once, --json, or without a
terminal. Imports rich and aiohttp only when the command runs. The exit status is 0 once traffic was shown.
"""

import inspect
import os
import sys
from collections.abc import Sequence
from typing import Any

import msgspec
import typer

from maesh_core.cli.flag_groups import GroupedCommand
from maesh_core.cli.options import build_parameters, resolve_settings
from maesh_core.cli.running import run_to_end
from maesh_core.process.logging_setup import configure_logging
from maesh_core.settings import InstalledPlugin
from maesh_core.settings.traffic import TopSettings


def add_command(application: typer.Typer, installed: Sequence[InstalledPlugin]) -> None:
    """Add the command to the application."""

    def command(**given: Any) -> None:
        """Show the traffic of all services, or of SERVICE, live in this terminal.

        Write SERVICE as name.namespace, namespace/name or name, with :PORT if it has several. With --endpoint, the
        command queries one controller. Otherwise it queries a controller of the cluster through the API server, or
        http://127.0.0.1:9000 if there is no cluster.
        """
        service = given.pop("service")
        run(resolve_settings(TopSettings, given, installed), service)

    argument = typer.Argument(None, metavar="SERVICE", help="Service to open.", show_default=False)
    parameter = inspect.Parameter("service", inspect.Parameter.KEYWORD_ONLY, default=argument, annotation=str | None)
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [parameter, *build_parameters(TopSettings, installed)]
    )
    application.command("top", cls=GroupedCommand)(command)


def run(settings: TopSettings, service: str | None) -> None:
    """Show the traffic until the user quits, or print it once."""
    configure_logging(settings.log_level, settings.log_format)
    from maesh_core.cli.top.reading import read_once  # aiohttp, only for this command
    from maesh_core.cli.top.services import filter_services, select_services

    source, report = run_to_end(lambda: read_once(settings), stopped="stopped before the controller had answered")
    if service is not None:
        found = select_services(report.services, service)
        if settings.json or is_once(settings):
            report = msgspec.structs.replace(report, services=tuple(found))
    elif settings.json:
        found = filter_services(report.services, settings.filter)
        report = msgspec.structs.replace(report, services=tuple(found))
    if settings.json:
        print(msgspec.json.encode(report).decode())  # noqa: T201
    elif is_once(settings):
        from maesh_core.cli.top.printing import render_once

        width = os.get_terminal_size(1).columns if os.isatty(1) else None
        print(render_once(report, settings, width=width, is_opened=service is not None))  # noqa: T201
    else:
        from maesh_core.cli.top.live import run_live

        run_live(settings, source, report, service)


def is_once(settings: TopSettings) -> bool:
    """Whether to print once: on request, or because keys and screen need a terminal that can move its cursor."""
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    return settings.once or not is_terminal
