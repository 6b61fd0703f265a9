"""`maesh controller`: checks the settings, then replaces itself with the controller, a program without typer."""

from collections.abc import Sequence

import typer

from maesh_core.cli.flag_groups import GroupedCommand
from maesh_core.cli.options import build_command
from maesh_core.cli.programs import become_program
from maesh_core.settings import ControllerSettings, InstalledPlugin


def add_command(application: typer.Typer, installed: Sequence[InstalledPlugin]) -> None:
    """Add the command to the application."""
    command = build_command(ControllerSettings, run, installed=installed, takes_paths=True)
    application.command("controller", cls=GroupedCommand)(command)


def run(settings: ControllerSettings) -> None:
    """Compute the configuration and serve it to proxies.

    The controller reads the objects of the cluster that it runs in, or of the cluster in the kubeconfig. With PATH, a
    file or folder of Kubernetes manifests in YAML or JSON, it reads only these manifests.
    """
    become_program("maesh_core.cli.controller_program", settings)
