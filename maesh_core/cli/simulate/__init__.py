"""`maesh simulate`: tests of policy. Runs the requests of scenario files against manifests, without a cluster.

Prints what was expected and what was found, as text or JSON, and writes JUnit XML. The exit status is 3 if a case has
failed.
"""

import asyncio
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import typer

from maesh_core.cli.flag_groups import MAIN, GroupedCommand
from maesh_core.cli.options import build_parameters, resolve_settings
from maesh_core.errors import StartupError
from maesh_core.process.logging_setup import configure_logging
from maesh_core.process.printable import show_lines
from maesh_core.settings import InstalledPlugin
from maesh_core.settings.states import SimulateSettings

FAILED_STATUS = 3


def add_command(application: typer.Typer, installed: Sequence[InstalledPlugin]) -> None:
    """Add the command to the application."""

    def command(**given: Any) -> None:
        """Check what happens to the requests in SCENARIO files, without a cluster.

        A scenario is a YAML file with requests, each with its client, service, method and path, and with the expected
        verdict, shares and limits. It names its manifests, unless --manifests does.
        """
        scenarios, manifests = given.pop("scenarios"), given.pop("manifests")
        settings = resolve_settings(SimulateSettings, given, installed)
        if not run(settings, tuple(scenarios), tuple(manifests or ())):
            raise typer.Exit(FAILED_STATUS)

    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [*_build_arguments(), *build_parameters(SimulateSettings, installed)]
    )
    application.command("simulate", cls=GroupedCommand)(command)


def _build_arguments() -> list[inspect.Parameter]:
    paths = typer.Argument(..., metavar="SCENARIO...", help="YAML files, or folders with such files.")
    manifests = typer.Option(
        None,
        "--manifests",
        metavar="PATH",
        help="Read these manifests instead of those that the scenarios name; repeatable.",
        rich_help_panel=MAIN,
    )
    keyword = inspect.Parameter.KEYWORD_ONLY
    return [
        inspect.Parameter("scenarios", keyword, default=paths, annotation=list[str]),
        inspect.Parameter("manifests", keyword, default=manifests, annotation=list[str] | None),
    ]


def run(settings: SimulateSettings, scenarios: tuple[str, ...], manifests: tuple[str, ...]) -> bool:
    """Run scenarios and print the results; returns whether all cases have passed."""
    configure_logging(settings.log_level, settings.log_format)
    from maesh_core.cli.simulate.report import render_junit, render_results
    from maesh_core.cli.simulate.running import run_scenarios  # the whole engine, only for this command

    results = asyncio.run(run_scenarios(settings, scenarios, manifests))
    if settings.junit:
        try:
            Path(settings.junit).write_bytes(render_junit(results))
        except OSError as error:
            raise StartupError(f"--junit: {settings.junit}: {error.strerror}") from error
    text = msgspec.json.encode(results).decode() if settings.json else show_lines(render_results(results))
    print(text)  # noqa: T201 - what was asked for
    return not any(each.failed for each in results)
