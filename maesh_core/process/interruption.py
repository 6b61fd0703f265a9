"""What a person is told who ends a command with Ctrl-C: what it still waits for, on lines of their own.

Writes to standard error, also from a signal's handler, and never fails. Standard output stays for what was asked for.
"""

import os
import signal
from contextlib import suppress

STANDARD_ERROR = 2
AGAIN = "press Ctrl-C again to end at once"


def end_echoed_line(signum: int) -> None:
    """End the line in which a terminal shows Ctrl-C as `^C`: what comes next, if only a prompt, begins a line."""
    if signum == signal.SIGINT and os.isatty(STANDARD_ERROR):
        _write("\n")


def tell_wait(text: str) -> None:
    """Say what is waited for, and how to wait no longer."""
    _write(f"maesh: {text}; {AGAIN}\n")


def _write(text: str) -> None:
    # Past the stream of this name: a handler may run in the middle of its work, which raises then.
    with suppress(OSError):
        os.write(STANDARD_ERROR, text.encode())
