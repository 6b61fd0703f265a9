"""`maesh up`: a whole mesh on this machine, in front until Ctrl-C."""

from collections.abc import Sequence

import typer

from maesh_core.cli.flag_groups import GroupedCommand
from maesh_core.cli.options import build_command
from maesh_core.cli.running import run_until_signalled
from maesh_core.errors import SettingsError
from maesh_core.logging_setup import configure_logging
from maesh_core.open_files import raise_open_files_limit
from maesh_core.plugin_loading import load_plugins
from maesh_core.printable import show_lines
from maesh_core.settings import InstalledPlugin, UpSettings


def add_command(application: typer.Typer, installed: Sequence[InstalledPlugin]) -> None:
    """Add the command to the application."""
    application.command("up", cls=GroupedCommand)(build_command(UpSettings, run, installed=installed, takes_paths=True))


def run(settings: UpSettings) -> None:
    """Run a whole mesh on this machine until Ctrl-C.

    PATH is a file or a folder of Kubernetes manifests, in YAML or JSON.
    """
    if not settings.paths:
        raise SettingsError("no manifests are named; name files or folders, as in: maesh up PATH...")
    configure_logging(settings.log_level, settings.log_format)
    raise_open_files_limit()
    plugins = load_plugins("controller", settings.plugins, settings.plugin_settings, origins=settings.origins)
    from maesh_core.cli.up_running import Mesh  # aiohttp, for this command alone

    mesh = Mesh(settings, plugins, _print)
    run_until_signalled(
        mesh.run, on_abort=mesh.abort, on_interrupt=mesh.note_interrupt, describe_wait=mesh.describe_wait
    )


def _print(text: str) -> None:
    print(show_lines(text), flush=True)  # noqa: T201 - what was asked for
