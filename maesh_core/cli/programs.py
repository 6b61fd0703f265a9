"""The long-running commands as programs of their own, which the command line becomes by `exec`.

Reading flags takes 25 MB (typer, pydantic, package metadata), which a controller that runs for months can do without.
Takes checked settings and hands them over; on the other side, gives them to what runs. Knows no flags.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec

from maesh_core.cli.early_end import end_at_once
from maesh_core.errors import MaeshError, SettingsError
from maesh_core.process.printable import show_line
from maesh_core.settings import CommonSettings, ProxySettings
from maesh_core.settings.handover import (
    PROXY_SETTINGS_VARIABLE,
    SETTINGS_DESCRIPTOR_VARIABLE,
    render_proxy_settings,
)

PROGRAM = "maesh"
COMPLETION_VARIABLE = f"_{PROGRAM.upper()}_COMPLETE"
"""Set by the scripts of shell completion: the command line then prints candidates and runs no command."""
PROXY_COMMAND = (sys.executable, "-P", "-m", "maesh_core.proxy")
"""`-P` keeps the working directory off Python's path: a file there could take the place of a module of the proxy."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

SettingsT = TypeVar("SettingsT", bound=CommonSettings)


def become(command: tuple[str, ...], environment: Mapping[str, str]) -> None:
    """Become another program of the mesh, in this process."""
    sys.stdout.flush()
    sys.stderr.flush()
    # A signal that comes while Python starts waits until the program can end on it with status 0.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        os.execve(command[0], command, environment)  # noqa: S606 - that is what it is for
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def become_program(module: str, settings: CommonSettings) -> None:
    """Become a module that calls `run_program`, with these settings.

    They go through a memory file: a variable of the environment holds 128 KiB, and paths may be more. JSON of the
    standard library keeps file names that are no UTF-8, as os.fsdecode writes them.
    """
    text = json.dumps(msgspec.to_builtins(settings))
    descriptor = os.memfd_create("maesh-settings", 0)  # inherited by what this process becomes
    try:
        with os.fdopen(descriptor, "w", encoding="ascii", closefd=False) as file:
            file.write(text)
        os.lseek(descriptor, 0, os.SEEK_SET)
        command = (sys.executable, "-P", "-m", module)
        become(command, {**os.environ, SETTINGS_DESCRIPTOR_VARIABLE: str(descriptor)})
    finally:
        os.close(descriptor)


def run_program(settings_class: type[SettingsT], run: Callable[[SettingsT], None]) -> int:
    """Run what `become_program` started, with the settings it was given; give the exit status, and print errors."""
    for number in _SIGNALS:
        signal.signal(number, end_at_once)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    try:
        run(_take_settings(settings_class))
    except MaeshError as error:
        print_error(str(error))
        return 1
    return 0


def print_error(text: str) -> None:
    """Print the one line with which a command that failed ends."""
    print(f"{PROGRAM}: error: {show_line(text)}", file=sys.stderr)  # noqa: T201 - a command's own output


def build_proxy_environment(settings: ProxySettings) -> dict[str, str]:
    """Build the environment that a proxy is started with: this one, and its settings."""
    return {**os.environ, PROXY_SETTINGS_VARIABLE: render_proxy_settings(settings)}


def _take_settings(settings_class: type[SettingsT]) -> SettingsT:
    """Read what `become_program` wrote."""
    descriptor = os.environ.pop(SETTINGS_DESCRIPTOR_VARIABLE, "")
    try:
        with open(int(descriptor), encoding="ascii") as file:
            return msgspec.convert(json.load(file), settings_class)
    except (ValueError, OSError) as error:  # msgspec.ValidationError is a ValueError
        raise SettingsError(
            f"{SETTINGS_DESCRIPTOR_VARIABLE}: no settings found; this program is started by maesh"
        ) from error
