"""How long a client that has had its last answer is read on, and what it sends thrown away (RFC 9112 section 9.6).

Closing at once would reset the connection, and a reset overtakes the answer. Decides about time alone, as nginx's
lingering_timeout and lingering_time do; the client's connection reads and closes.
"""

from typing import Final

LINGER_S: Final = 5.0
"""For so long after the last byte."""
LINGER_LIMIT_S: Final = 30.0
"""For so long in all, however much the client sends."""


class Linger:
    """The wait of one client. Times are the clock's, in seconds."""

    __slots__ = ("_ends_at", "deadline")

    def __init__(self, now: float) -> None:
        self._ends_at = now + LINGER_LIMIT_S
        self.deadline = now + LINGER_S

    def __repr__(self) -> str:
        return f"<Linger until {self.deadline:.2f}, {self._ends_at:.2f} at the latest>"

    def extend(self, now: float) -> float:
        """Wait on from now, when bytes have come; returns the deadline."""
        self.deadline = min(now + LINGER_S, self._ends_at)
        return self.deadline
