"""Runs a command's coroutine until it ends or a signal arrives.

The first SIGINT or SIGTERM asks it to end; the second ends the process at once with status 1. The handlers stay
installed until the event loop is closed, so that the default action of a signal does not interrupt its threads. After
Ctrl-C, the command prints what it waits for, if anything.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, TypeVar

from maesh_core.errors import StartupError
from maesh_core.process.interruption import end_echoed_line, tell_wait

ResultT = TypeVar("ResultT")
Stoppable = Callable[[asyncio.Event], Coroutine[Any, Any, None]]

SLOW_END_S = 1.0
"""A command that has not ended this long after Ctrl-C prints what it waits for."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run_to_end(make: Callable[[], Coroutine[Any, Any, ResultT]], *, stopped: str) -> ResultT:
    """Run a coroutine and return its result. A signal cancels it and raises StartupError with the text `stopped`."""
    results: list[ResultT] = []

    async def work(stop: asyncio.Event) -> None:
        working = asyncio.ensure_future(make())
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            is_stopped = not working.done()
            for task in (working, stopping):
                task.cancel()
            await asyncio.wait((working, stopping))
        if is_stopped:
            raise StartupError(stopped)
        results.append(working.result())

    run_until_signalled(work, describe_wait=lambda: "waiting for running calls to finish")
    return results[0]


def run_until_signalled(
    run: Stoppable,
    *,
    on_abort: Callable[[], None] = lambda: None,
    on_interrupt: Callable[[], None] = lambda: None,
    describe_wait: Callable[[], str] = lambda: "",
) -> None:
    """Run a coroutine function with the event that asks it to stop.

    `on_abort` is called before an immediate end, and `on_interrupt` at the first signal if that is Ctrl-C.
    `describe_wait` returns what a slow end waits for, as a line for the user, or nothing if this was already printed.
    """
    with asyncio.Runner() as runner:
        stop = asyncio.Event()
        loop = runner.get_loop()
        has_asked = False

        def print_wait() -> None:
            if text := describe_wait():
                tell_wait(text)

        def on_signal(signum: int, frame: FrameType | None) -> None:
            nonlocal has_asked
            del frame
            end_echoed_line(signum)
            if has_asked:
                on_abort()
                sys.stderr.flush()
                os._exit(1)
            has_asked = True
            if signum == signal.SIGINT:
                on_interrupt()
            if not loop.is_closed():
                loop.call_soon_threadsafe(stop.set)  # a plain `set` would not wake the loop
                if signum == signal.SIGINT:
                    loop.call_soon_threadsafe(loop.call_later, SLOW_END_S, print_wait)

        before = {number: signal.signal(number, on_signal) for number in _SIGNALS}
        try:
            runner.run(run(stop))
            runner.close()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
