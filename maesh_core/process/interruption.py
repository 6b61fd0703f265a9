"""The message after Ctrl-C: what a command still waits for, on lines of its own.

Writes to standard error, also from a signal handler, and never fails. Standard output is only for a command's result.
"""

import os
import signal
from contextlib import suppress

STANDARD_ERROR = 2
AGAIN = "press Ctrl-C again to end at once"


def end_echoed_line(signum: int) -> None:
    """End the line in which a terminal shows `^C`, so that the following output or prompt starts on a new line."""
    if signum == signal.SIGINT and os.isatty(STANDARD_ERROR):
        _write("\n")


def tell_wait(text: str) -> None:
    """Print what the command waits for, and how to end it at once."""
    _write(f"maesh: {text}; {AGAIN}\n")


def _write(text: str) -> None:
    # Bypasses sys.stderr: a signal handler may interrupt a write to it, and a second write raises then.
    with suppress(OSError):
        os.write(STANDARD_ERROR, text.encode())
