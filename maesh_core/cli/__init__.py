"""The command line: one module a command, each only flags to settings to run.

`main` is the console script `maesh`. It imports typer and its friends only here, never for the proxy.
"""

import signal
import sys
from types import FrameType


def main() -> int:
    """Run the command line and give its status; the console script `maesh`."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:  # Ctrl-C may come while typer is imported
        from maesh_core.cli.app import run_command_line
    except KeyboardInterrupt:
        return 0
    return run_command_line(sys.argv[1:])


def _interrupt(signum: int, frame: FrameType | None) -> None:
    """Treat SIGTERM as Ctrl-C until a command has its own handlers."""
    raise KeyboardInterrupt
