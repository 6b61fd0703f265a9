"""How long to read and discard a client's bytes after its last response (RFC 9112 section 9.6).

Closing at once would reset the connection, and the client could lose the response that it has not read yet. This module
only computes deadlines, as nginx's lingering_timeout and lingering_time do; the client connection reads and closes.
"""

from typing import Final

LINGER_S: Final = 5.0
"""Seconds to wait after the last received byte."""
LINGER_LIMIT_S: Final = 30.0
"""Seconds to wait in total, however much the client sends."""


class Linger:
    """The wait of one client. Times are those of the clock, in seconds."""

    __slots__ = ("_ends_at", "deadline")

    def __init__(self, now: float) -> None:
        self._ends_at = now + LINGER_LIMIT_S
        self.deadline = now + LINGER_S

    def __repr__(self) -> str:
        return f"<Linger until {self.deadline:.2f}, {self._ends_at:.2f} at the latest>"

    def extend(self, now: float) -> float:
        """Extend the wait because bytes have arrived; return the deadline."""
        self.deadline = min(now + LINGER_S, self._ends_at)
        return self.deadline
