"""How long to wait before trying again: twice as long each time, up to a limit, with jitter.

Gives seconds and waits for none, so that it runs on any clock. The jitter keeps the nodes of a cluster, which all lose
their controller at one moment, from coming back at one moment.
"""

from collections.abc import Callable
from random import random

FIRST_DELAY_S = 0.1
DELAY_LIMIT_S = 5.0


class Backoff:
    """The delays of one row of failures. `get_random` gives numbers from 0 to 1."""

    __slots__ = ("_delay_s", "_get_random")

    def __init__(self, get_random: Callable[[], float] = random) -> None:
        self._get_random = get_random
        self._delay_s = FIRST_DELAY_S

    def __repr__(self) -> str:
        """Show the next delay, before jitter."""
        return f"<Backoff {self._delay_s} s>"

    def next_delay_s(self) -> float:
        """Count a failure; say how long to wait: between a half and the whole of the delay."""
        delay_s = self._delay_s * (0.5 + 0.5 * self._get_random())
        self._delay_s = min(self._delay_s * 2, DELAY_LIMIT_S)
        return delay_s

    def reset(self) -> None:
        """Begin anew, after a success."""
        self._delay_s = FIRST_DELAY_S
