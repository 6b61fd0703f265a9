"""`maesh controller`: works out the configuration and serves it to proxies, until it is stopped."""

import asyncio
from collections.abc import Sequence

import typer

from maesh_core.cli.flag_groups import GroupedCommand
from maesh_core.cli.options import build_command
from maesh_core.cli.running import run_until_signalled
from maesh_core.logging_setup import configure_logging
from maesh_core.open_files import raise_open_files_limit
from maesh_core.plugin_loading import load_plugins
from maesh_core.settings import ControllerSettings, InstalledPlugin


def add_command(application: typer.Typer, installed: Sequence[InstalledPlugin]) -> None:
    """Add the command to the application."""
    command = build_command(ControllerSettings, run, installed=installed, takes_paths=True)
    application.command("controller", cls=GroupedCommand)(command)


def run(settings: ControllerSettings) -> None:
    """Work out the configuration and serve it to proxies.

    The objects are read from the cluster that this runs in, or that a kubeconfig names. With PATH, a file or a folder
    of Kubernetes manifests in YAML or JSON, they are read from there, and no cluster is touched.
    """
    configure_logging(settings.log_level, settings.log_format)
    raise_open_files_limit()
    plugins = load_plugins("controller", settings.plugins, settings.plugin_settings, origins=settings.origins)
    from maesh_core.controller.run import run_controller  # aiohttp, for this command alone

    async def serve(stop: asyncio.Event) -> None:
        await run_controller(settings, plugins, ready=None, stop=stop)

    run_until_signalled(serve, describe_wait=lambda: "waiting for the last answers and writes of the controller")
