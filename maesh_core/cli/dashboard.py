"""`maesh dashboard`: opens a port on this machine at which a browser shows the dashboard of a controller.

A browser sends no token, so the command adds it to each request. The address has a key that only the user of the
command knows. Runs until Ctrl-C.
"""

import asyncio
import secrets
from collections.abc import Sequence

import typer

from maesh_core.cli.flag_groups import GroupedCommand
from maesh_core.cli.options import build_command
from maesh_core.cli.running import run_until_signalled
from maesh_core.errors import MaeshError, StartupError
from maesh_core.process.logging_setup import configure_logging
from maesh_core.settings import DashboardSettings, InstalledPlugin

HOST = "127.0.0.1"
KEY_BYTES = 24


def add_command(application: typer.Typer, installed: Sequence[InstalledPlugin]) -> None:
    """Add the command to the application."""
    application.command("dashboard", cls=GroupedCommand)(build_command(DashboardSettings, run, installed=installed))


def run(settings: DashboardSettings) -> None:
    """Print an address of this machine at which a browser shows the dashboard, until Ctrl-C.

    The controllers are found as by `maesh status`, and may be protected. Keep the address secret: anybody who knows it
    on this machine can read what you can read.
    """
    configure_logging(settings.log_level, settings.log_format)
    run_until_signalled(lambda stop: _serve(settings, stop))


async def _serve(settings: DashboardSettings, stop: asyncio.Event) -> None:
    from maesh_core.controller.api.server import open_socket, start_server
    from maesh_core.controller.api_clients.controllers import (  # aiohttp, only for this command
        ApiAccess,
        advise,
        open_apis,
    )
    from maesh_core.controller.api_clients.local_dashboard import LocalDashboard

    key = secrets.token_urlsafe(KEY_BYTES)
    dashboard = LocalDashboard(
        lambda: open_apis(
            settings.endpoint,
            kubeconfig=settings.kubeconfig,
            master_url=settings.master_url,
            namespace=settings.namespace,
            access=ApiAccess.from_settings(settings),
        ),
        key,
    )
    sock = open_socket(HOST, settings.local_port, flag="--local-port")
    try:
        async with dashboard:
            try:
                await dashboard.fetch("/")
            except MaeshError as error:
                text = f"no dashboard: {advise(error, settings.endpoint)}; the controller needs --dashboard"
                raise StartupError(text) from error
            server = await start_server(dashboard.answer, sock)
            print(f"the dashboard is at http://{HOST}:{server.port}/{key}/ until Ctrl-C", flush=True)  # noqa: T201
            await stop.wait()
            await server.close()
    finally:
        sock.close()
