"""The command line: one module for each command, which turns flags into settings and runs the command.

`main` is the console script `maesh`. Only the command line imports typer; the proxy does not.
"""

import signal
import sys

from maesh_core.cli.early_end import end_at_once


def main() -> int:
    """Run the command line and return its exit status; the console script `maesh`."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end_at_once)
    from maesh_core.cli.app import run_command_line

    return run_command_line(sys.argv[1:])
