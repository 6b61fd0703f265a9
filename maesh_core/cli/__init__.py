"""The command line: one module a command, each only flags to settings to run.

`main` is the console script `maesh`. It imports typer and its friends only here, never for the proxy.
"""

import os
import signal
import sys
from types import FrameType

from maesh_core.interruption import end_echoed_line

ONE_SHOT = frozenset({"prepare", "cleanup", "status", "explain"})
"""Commands that have not done what they are for when they are ended early: nobody must take that for success."""


def main() -> int:
    """Run the command line and give its status; the console script `maesh`."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end_at_once)
    from maesh_core.cli.app import run_command_line

    return run_command_line(sys.argv[1:])


def end_at_once(signum: int, frame: FrameType | None) -> None:
    """End on a signal that comes before a command has its own handlers: nothing is running yet.

    The status is 0, as that of a controller that is stopped; 1 for a command that should have done something.

    No exception is raised, for it would come up anywhere: in other people's imports, and inside an `exec` Python ends
    with SIGINT even where KeyboardInterrupt is caught.
    """
    del frame
    end_echoed_line(signum)
    os._exit(int(not ONE_SHOT.isdisjoint(sys.argv[1:2])))
