"""`maesh diff`: what changes for traffic between two states of the mesh.

A state is a path with manifests, a revision of a git repository, or a cluster. Prints text or JSON. The exit status is
3 if the states differ in a way that `--fail-on` names.
"""

import asyncio
import inspect
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import msgspec
import typer

from maesh_core.cli.flag_groups import GroupedCommand
from maesh_core.cli.options import build_parameters, resolve_settings
from maesh_core.process.logging_setup import configure_logging
from maesh_core.process.printable import show_lines
from maesh_core.settings import InstalledPlugin
from maesh_core.settings.states import DiffSettings

if TYPE_CHECKING:
    from maesh_core.controller.comparing.changes import MeshDiff

FAILED_STATUS = 3


def add_command(application: typer.Typer, installed: Sequence[InstalledPlugin]) -> None:
    """Add the command to the application."""

    def command(**given: Any) -> None:
        """Show what changes for traffic between OLD and NEW: who may call whom, where requests go, what limits them.

        OLD and NEW are each a file or folder with manifests, git:REVISION or git:REVISION:PATH for manifests of a git
        repository, or cluster for the objects of a cluster. Without PATH, a revision is read at the path of the other
        state. Manifests beside cluster are compared as if they were applied to it. Every change of access has an
        example request whose results differ.
        """
        old, new = given.pop("old"), given.pop("new")
        if run(resolve_settings(DiffSettings, given, installed), old, new):
            raise typer.Exit(FAILED_STATUS)

    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [_build_argument("old"), _build_argument("new"), *build_parameters(DiffSettings, installed)]
    )
    application.command("diff", cls=GroupedCommand)(command)


def _build_argument(name: str) -> inspect.Parameter:
    argument = typer.Argument(..., metavar=name.upper(), help="PATH, git:REVISION[:PATH] or cluster.")
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=argument, annotation=str)


def run(settings: DiffSettings, old: str, new: str) -> bool:
    """Print the difference; returns whether the command fails because of `--fail-on`."""
    configure_logging(settings.log_level, settings.log_format)
    from maesh_core.cli.diff.report import render_diff
    from maesh_core.cli.diff.states import read_states  # the whole engine, only for this command
    from maesh_core.controller.comparing.comparison import compare_states

    with ExitStack() as stack:
        found = compare_states(*asyncio.run(read_states(settings, old, new, stack)))
    print(msgspec.json.encode(found).decode() if settings.json else show_lines(render_diff(found)))  # noqa: T201
    return _fails(found, settings.fail_on)


def _fails(found: "MeshDiff", fail_on: str) -> bool:
    if fail_on == "opens-access":
        return found.opens_access
    if fail_on == "closes-access":
        return found.opens_access or found.closes_access
    return fail_on == "changes" and not found.is_empty
