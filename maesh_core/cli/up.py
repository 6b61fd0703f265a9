"""`maesh up`: checks the settings, then replaces itself with local_mesh/program.py, a program without typer."""

from collections.abc import Sequence

import typer

from maesh_core.cli.flag_groups import GroupedCommand
from maesh_core.cli.options import build_command
from maesh_core.cli.programs import become_program
from maesh_core.errors import SettingsError
from maesh_core.plugin_system.metadata import enable_local_defaults
from maesh_core.settings import InstalledPlugin, UpSettings


def add_command(application: typer.Typer, installed: Sequence[InstalledPlugin]) -> None:
    """Add the command to the application."""
    plugins = enable_local_defaults(installed)
    application.command("up", cls=GroupedCommand)(build_command(UpSettings, run, installed=plugins, takes_paths=True))


def run(settings: UpSettings) -> None:
    """Run a mesh on this machine until Ctrl-C.

    PATH is a file or a folder of Kubernetes manifests, in YAML or JSON.
    """
    if not settings.paths:
        raise SettingsError("no manifests are given; pass files or folders: maesh up PATH...")
    become_program("maesh_core.cli.local_mesh.program", settings)
