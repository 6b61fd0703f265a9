"""`maesh proxy`: checks the settings and becomes the proxy, which is a program of its own without any of typer."""

import os
import signal
import sys
from collections.abc import Sequence

import typer

from maesh_core.cli.flag_groups import GroupedCommand
from maesh_core.cli.options import build_command
from maesh_core.errors import SettingsError
from maesh_core.settings import InstalledPlugin, ProxySettings
from maesh_core.settings_handover import PROXY_SETTINGS_VARIABLE, render_proxy_settings

PROXY_COMMAND = (sys.executable, "-P", "-m", "maesh_core.proxy")
"""`-P`: a file in the working directory must not stand in for a module of the proxy."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def add_command(application: typer.Typer, installed: Sequence[InstalledPlugin]) -> None:
    """Add the command to the application."""
    application.command("proxy", cls=GroupedCommand)(build_command(ProxySettings, run, installed=installed))


def run(settings: ProxySettings) -> None:
    """Pull the configuration and carry the traffic."""
    if not settings.endpoint:
        raise SettingsError("no controller is named; name its URL, as in: maesh proxy --endpoint http://127.0.0.1:9000")
    sys.stdout.flush()
    sys.stderr.flush()
    # A signal that comes while Python starts anew waits until the proxy can answer it with an end of status 0.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        os.execve(PROXY_COMMAND[0], PROXY_COMMAND, build_proxy_environment(settings))  # noqa: S606 - becomes the proxy
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def build_proxy_environment(settings: ProxySettings) -> dict[str, str]:
    """Build the environment that a proxy is started with: this one, and its settings."""
    return {**os.environ, PROXY_SETTINGS_VARIABLE: render_proxy_settings(settings)}
