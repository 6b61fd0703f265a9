"""Runs a command's coroutine until it ends or is signalled.

The first SIGINT or SIGTERM asks it to end; a second one ends the process at once with status 1.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

Stoppable = Callable[[asyncio.Event], Coroutine[Any, Any, None]]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run_until_signalled(run: Stoppable, *, on_abort: Callable[[], None] = lambda: None) -> None:
    """Run a coroutine function with the event that asks it to stop; `on_abort` comes before an end at once."""
    asyncio.run(_run(run, on_abort))


async def _run(run: Stoppable, on_abort: Callable[[], None]) -> None:
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            on_abort()
            sys.stderr.flush()
            os._exit(1)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal)
    try:
        await run(stop)
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
