"""Notices that the process which started this one is gone, however it died.

Takes the descriptor of a pipe, named by an environment variable, whose other end only the parent holds: the kernel
closes it with the parent, also after SIGKILL. Unlike the parent's process id it cannot come to mean another process.
"""

import asyncio
import os
from collections.abc import Callable

from maesh_core.settings.handover import PARENT_PIPE_VARIABLE


def follow_parent(on_gone: Callable[[], None]) -> None:
    """Call `on_gone` once when the parent is gone, if it left a pipe to tell by. Needs the running event loop."""
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
