"""The command line: one module a command, each only flags to settings to run.

`main` is the console script `maesh`. It imports typer and its friends only here, never for the proxy.
"""

import signal
import sys

from maesh_core.cli.early_end import end_at_once


def main() -> int:
    """Run the command line and give its status; the console script `maesh`."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end_at_once)
    from maesh_core.cli.app import run_command_line

    return run_command_line(sys.argv[1:])
