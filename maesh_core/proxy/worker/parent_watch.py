"""Detects that the parent process is gone, however it ended.

Takes the descriptor of a pipe from an environment variable. Only the parent holds the other end, and the kernel closes
it with the parent, even after SIGKILL. Unlike a process id, a pipe cannot come to refer to another process.
"""

import asyncio
import os
from collections.abc import Callable

from maesh_core.settings.handover import PARENT_PIPE_VARIABLE


def follow_parent(on_gone: Callable[[], None]) -> None:
    """Call `on_gone` once when the parent is gone, if it passed a pipe. Needs a running event loop."""
    text = os.environ.pop(PARENT_PIPE_VARIABLE, "")
    if not text.isdecimal():
        return
    descriptor = int(text)
    loop = asyncio.get_running_loop()

    def read() -> None:
        if os.read(descriptor, 512) == b"":
            loop.remove_reader(descriptor)
            on_gone()

    loop.add_reader(descriptor, read)
