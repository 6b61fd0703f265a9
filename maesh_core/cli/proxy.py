"""`maesh proxy`: checks the settings, then replaces itself with the proxy, a program without typer."""

from collections.abc import Sequence

import typer

from maesh_core.cli.flag_groups import GroupedCommand
from maesh_core.cli.options import build_command
from maesh_core.cli.programs import PROXY_COMMAND, become, build_proxy_environment
from maesh_core.errors import SettingsError
from maesh_core.settings import InstalledPlugin, ProxySettings


def add_command(application: typer.Typer, installed: Sequence[InstalledPlugin]) -> None:
    """Add the command to the application."""
    application.command("proxy", cls=GroupedCommand)(build_command(ProxySettings, run, installed=installed))


def run(settings: ProxySettings) -> None:
    """Fetch the configuration and route traffic."""
    if not settings.endpoint:
        raise SettingsError(
            "no controller is set; set its URL, for example: maesh proxy --endpoint http://127.0.0.1:9000"
        )
    become(PROXY_COMMAND, build_proxy_environment(settings))
