"""Replaces the command line with the program of a long-running command, by `exec`.

Reading flags needs 12 MB (typer, package metadata), which a controller that runs for months should not keep.
Passes the checked settings to the program, and reads them there. Knows no flags.
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
"""The scripts of shell completion set it. The command line then prints candidates and runs no command."""
PROXY_COMMAND = (sys.executable, "-P", "-m", "maesh_core.proxy")
"""`-P` removes the working directory from Python's path: a file there could replace a module of the proxy."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

SettingsT = TypeVar("SettingsT", bound=CommonSettings)


def become(command: tuple[str, ...], environment: Mapping[str, str]) -> None:
    """Replace this process with another program of the mesh."""
    sys.stdout.flush()
    sys.stderr.flush()
    # Signals are blocked while Python starts, until the program can end with status 0 on them.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        os.execve(command[0], command, environment)  # noqa: S606 - that is what it is for
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def become_program(module: str, settings: CommonSettings) -> None:
    """Replace this process with a module that calls `run_program`, with these settings.

    The settings are passed in a memory file, because paths may need more than the 128 KiB of an environment variable.
    JSON of the standard library preserves file names that are not UTF-8, as os.fsdecode writes them.
    """
    text = json.dumps(msgspec.to_builtins(settings))
    descriptor = os.memfd_create("maesh-settings", 0)  # inherited by the new program
    try:
        with os.fdopen(descriptor, "w", encoding="ascii", closefd=False) as file:
            file.write(text)
        os.lseek(descriptor, 0, os.SEEK_SET)
        command = (sys.executable, "-P", "-m", module)
        become(command, {**os.environ, SETTINGS_DESCRIPTOR_VARIABLE: str(descriptor)})
    finally:
        os.close(descriptor)


def run_program(settings_class: type[SettingsT], run: Callable[[SettingsT], None]) -> int:
    """Run the program that `become_program` started, with its settings. Prints errors and returns the exit status."""
    for number in _SIGNALS:
        signal.signal(number, end_at_once)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    try:
        run(_read_settings(settings_class))
    except MaeshError as error:
        print_error(str(error))
        return 1
    return 0


def print_error(text: str) -> None:
    """Print the last line of a command that failed."""
    print(f"{PROGRAM}: error: {show_line(text)}", file=sys.stderr)  # noqa: T201 - a command's own output


def build_proxy_environment(settings: ProxySettings) -> dict[str, str]:
    """Build the environment of a proxy: that of this process and the settings."""
    return {**os.environ, PROXY_SETTINGS_VARIABLE: render_proxy_settings(settings)}


def _read_settings(settings_class: type[SettingsT]) -> SettingsT:
    """Read the settings that `become_program` wrote."""
    descriptor = os.environ.pop(SETTINGS_DESCRIPTOR_VARIABLE, "")
    try:
        with open(int(descriptor), encoding="ascii") as file:
            return msgspec.convert(json.load(file), settings_class)
    except (ValueError, OSError) as error:  # msgspec.ValidationError is a ValueError
        raise SettingsError(
            f"{SETTINGS_DESCRIPTOR_VARIABLE}: no settings found; this program is started by maesh"
        ) from error
