"""Growing pauses between attempts at the API server. Takes a source of chance, gives seconds; waits for nothing."""

import random
from collections.abc import Callable

FIRST_S = 0.2
LONGEST_S = 30.0


class Backoff:
    """Pauses that double with every failure in a row; each is cut by chance to between its half and the whole.

    So clients that lost one server together do not come back together.
    """

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
        """Give the pause before the next attempt, never shorter than what the server asked for."""
        pause_s = self._next_s * (0.5 + self._chance() / 2)
        self._next_s = min(self._next_s * 2, self._longest_s)
        return pause_s if at_least_s is None else at_least_s + pause_s

    def reset(self) -> None:
        """Begin anew after a success."""
        self._next_s = self._first_s
