"""Exponential backoff with jitter: each pause is twice as long, up to a limit, and randomly shortened.

Returns seconds and does not wait, so it works with any clock. Jitter prevents that all clients of a failed server, such
as the nodes of a cluster or the watches of a controller, return at the same moment.
"""

import random
from collections.abc import Callable

FIRST_S = 0.1
LONGEST_S = 5.0


class Backoff:
    """The pauses between consecutive failures. `chance` returns 0 to 1, for a half to the whole of a pause."""

    __slots__ = ("_chance", "_first_s", "_longest_s", "_next_s")

    def __init__(
        self,
        *,
        first_s: float = FIRST_S,
        longest_s: float = LONGEST_S,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._next_s = first_s
        self._chance = chance

    def __repr__(self) -> str:
        return f"<Backoff next {self._next_s:g} s>"

    def next(self, *, at_least_s: float | None = None) -> float:
        """Return the pause before the next attempt, at least as long as the server asked for."""
        pause_s = self._next_s * (0.5 + self._chance() / 2)
        self._next_s = min(self._next_s * 2, self._longest_s)
        return pause_s if at_least_s is None else at_least_s + pause_s

    def reset(self) -> None:
        """Start again after a success."""
        self._next_s = self._first_s
