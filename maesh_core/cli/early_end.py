"""The signal handler of a command before it installs its own handlers; nothing is running yet."""

import os
import sys
from types import FrameType

from maesh_core.process.interruption import end_echoed_line

ONE_SHOT = frozenset({"prepare", "cleanup", "status", "explain", "check", "diff", "simulate"})
"""Commands without a result when they are ended early. Their exit status must not mean success."""


def end_at_once(signum: int, frame: FrameType | None) -> None:
    """End with status 0, like a controller that is stopped, or with 1 for a command that should have a result.

    It raises no exception, because an exception could appear anywhere, for example in the imports of other packages.
    During an `exec`, Python ends with SIGINT even if KeyboardInterrupt is caught.
    """
    del frame
    end_echoed_line(signum)
    os._exit(int(not ONE_SHOT.isdisjoint(sys.argv[1:2])))
