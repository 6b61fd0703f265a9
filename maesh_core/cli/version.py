"""`maesh version`: which versions of everything are at work. Prints; starts nothing and imports no plugin."""

import platform
from collections.abc import Sequence
from importlib.metadata import version

import typer

from maesh_core import engine
from maesh_core.settings import InstalledPlugin


def add_command(application: typer.Typer, installed: Sequence[InstalledPlugin]) -> None:
    """Add the command to the application."""

    def run() -> None:
        """Show the versions of maesh and of its parts."""
        print_version(installed)

    application.command("version")(run)


def print_version(installed: Sequence[InstalledPlugin]) -> None:
    """Print a line for each part."""
    lines = [
        f"maesh     {version('maesh')}",
        f"python    {platform.python_version()}",
        f"platform  {platform.platform()}",
        f"engine    {engine.form}{f' ({engine.reason})' if engine.reason else ''}",
    ]
    lines += [f"plugin    {plugin.name} ({plugin.distribution} {plugin.version})" for plugin in installed]
    print("\n".join(lines))  # noqa: T201 - what was asked for
