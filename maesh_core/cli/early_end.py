"""How a command ends on a signal that comes before it has handlers of its own: nothing is running yet."""

import os
import sys
from types import FrameType

from maesh_core.process.interruption import end_echoed_line

ONE_SHOT = frozenset({"prepare", "cleanup", "status", "explain"})
"""Commands that have not done what they are for when they are ended early: nobody must take that for success."""


def end_at_once(signum: int, frame: FrameType | None) -> None:
    """End with status 0, as a controller that is stopped; with 1 for a command that should have done something.

    No exception is raised, for it would come up anywhere: in other people's imports, and inside an `exec` Python ends
    with SIGINT even where KeyboardInterrupt is caught.
    """
    del frame
    end_echoed_line(signum)
    os._exit(int(not ONE_SHOT.isdisjoint(sys.argv[1:2])))
