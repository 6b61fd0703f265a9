"""The request to end a node, by signals or by a caller, and how to say what the end waits for."""

import asyncio
import signal
from collections.abc import Mapping

from maesh_core.process.interruption import end_echoed_line


class Shutdown:
    """The request to end the process: `requested` is set by the first signal, `forced` by the second.

    `is_interrupt` means that a user pressed Ctrl-C. Create it in the event loop.
    """

    __slots__ = ("forced", "is_interrupt", "requested")

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        self.forced = asyncio.Event()
        self.is_interrupt = False

    def __repr__(self) -> str:
        """Show the state."""
        return f"<Shutdown requested={self.requested.is_set()} forced={self.forced.is_set()}>"

    def request(self, number: int = signal.SIGTERM) -> None:
        """Request the end because of a signal; a second call requests to end at once."""
        end_echoed_line(number)
        if self.requested.is_set():
            self.forced.set()
        self.is_interrupt = self.is_interrupt or number == signal.SIGINT
        self.requested.set()

    def follow_signals(self) -> None:
        """Handle SIGTERM and SIGINT as requests."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.request, number)


def describe_connections(counts: Mapping[str, int]) -> str:
    """Render the number of connections, with the protocols unless all are HTTP."""
    total = sum(counts.values())
    noun = "connection" if total == 1 else "connections"
    kinds = ", ".join(f"{count} {protocol}" for protocol, count in sorted(counts.items()) if count)
    return f"{total} {noun}" if counts.get("http") == total else f"{total} {noun} ({kinds})"
