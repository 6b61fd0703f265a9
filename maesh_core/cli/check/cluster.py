"""`maesh check --cluster`: runs the checks of a mesh, repeatedly with --wait, and prints their report.

Takes settings; prints text or JSON. The exit status is 3 if a check failed, or with --fail-on if it has a warning.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec
import typer

from maesh_core.cli.running import run_to_end
from maesh_core.errors import SettingsError
from maesh_core.plugin_system.metadata import list_installed
from maesh_core.process.printable import show_lines
from maesh_core.settings.check import CheckSettings

if TYPE_CHECKING:
    from maesh_core.controller.cluster_check.outcomes import Report

FAILED_STATUS = 3
REPEAT_S = 5.0
"""Pause between two runs of all checks."""


def run_cluster_check(settings: CheckSettings) -> None:
    """Run the checks and print the report. Raises typer.Exit if a check failed."""
    if settings.format not in ("text", "json"):
        raise SettingsError(f"--format: {settings.format} is only for findings in files, not for --cluster")
    from maesh_core.cli.check.cluster_report import render_report
    from maesh_core.controller.cluster_check.running import MeshCheck  # aiohttp and more, only for this command

    report = run_to_end(
        lambda: repeat(lambda: MeshCheck(settings, list_installed()).run(), settings),
        stopped="stopped before all checks were made",
    )
    if settings.json or settings.format == "json":
        print(msgspec.json.encode(report).decode())  # noqa: T201 - what was asked for
    else:
        print(show_lines(render_report(report, encoding=sys.stdout.encoding)))  # noqa: T201
    if is_failing(report, settings):
        raise typer.Exit(FAILED_STATUS)


def is_failing(report: "Report", settings: CheckSettings) -> bool:
    """Whether a report has a finding for which the command fails. There are no findings milder than warnings."""
    return bool(not report.success or (settings.fail_on != "error" and report.count("warning")))


async def repeat(
    check: "Callable[[], Awaitable[Report]]",
    settings: CheckSettings,
    *,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    show: Callable[[str], None] = lambda text: print(text, file=sys.stderr),  # noqa: T201 - what it waits for
) -> "Report":
    """Run the checks until none fails, or until the time is over; returns the last report.

    Calls `show` with a line about the failing checks whenever these change.
    """
    until, shown = clock() + settings.wait, ""
    while True:
        report = await check()
        left_s = until - clock()
        if left_s <= 0 or not is_failing(report, settings):
            return report
        waited = describe_failures(report, settings)
        if waited != shown:
            show(f"maesh: waiting for: {waited}")
            shown = waited
        await pause(min(REPEAT_S, left_s))


def describe_failures(report: "Report", settings: CheckSettings) -> str:
    """Name the checks for which the command fails."""
    results = ("error",) if settings.fail_on == "error" else ("error", "warning")
    return ", ".join(each.id for section in report.sections for each in section.checks if each.result in results)
