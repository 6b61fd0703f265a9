"""What is learnt of servers from the traffic itself: each is in full use, or set aside for a while.

A server that could not be connected to, or that broke a connection before a response head, is set aside. When its
pause is over one request tries it: a response head brings it back, another failure doubles the pause. Knows nothing of
connections: whoever makes them tells. Which server a request gets is the balancer's to say (balancer.py).
"""

import random
from collections.abc import Callable
from typing import Final, Protocol

JITTER: Final = 0.2
"""The share by which a pause may be longer or shorter, so that proxies and workers do not all come back at once."""


class Time(Protocol):
    """What tells the time: `now`, in seconds, however coarse."""

    now: float


class Watched(Protocol):
    """A server as this module sees it: `aside` None means full use, and is all that a request looks at then."""

    aside: "Aside | None"


class PassiveHealth:
    """The rules for all servers of a handler, and what sets them aside. A first pause of 0 sets none aside."""

    __slots__ = ("clock", "first_pause_s", "pause_limit_s", "random_share")

    def __init__(
        self,
        clock: Time,
        *,
        first_pause_s: float,
        pause_limit_s: float,
        random_share: Callable[[], float] = random.random,
    ) -> None:
        self.clock = clock
        self.first_pause_s = first_pause_s
        self.pause_limit_s = max(first_pause_s, pause_limit_s)
        self.random_share = random_share

    def __repr__(self) -> str:
        return f"<PassiveHealth pauses of {self.first_pause_s} to {self.pause_limit_s} s>"

    def on_failure(self, server: Watched) -> bool:
        """Set a server aside, or take its trial for failed; True if it was in full use before."""
        if server.aside is not None:
            server.aside.on_failure()
            return False
        if not self.first_pause_s:
            return False
        server.aside = Aside(self)
        return True

    def on_success(self, server: Watched) -> None:
        """Take a server back into full use."""
        server.aside = None


class Aside:
    """That a server is set aside, and until when."""

    __slots__ = ("_is_on_trial", "_pause_s", "_retry_at", "_rules", "_since", "_tried_at")

    def __init__(self, rules: PassiveHealth) -> None:
        self._rules = rules
        self._since = self._tried_at = rules.clock.now
        self._pause_s = rules.first_pause_s
        self._is_on_trial = False
        self._retry_at = 0.0
        self._begin_pause()

    def __repr__(self) -> str:
        left_s = self._retry_at - self._rules.clock.now
        return f"<Aside for {left_s:.2f} s{', on trial' if self._is_on_trial else ''}>"

    @property
    def is_due(self) -> bool:
        """Whether the pause is over, and one request may try the server."""
        return self._rules.clock.now >= self._retry_at

    @property
    def is_due_alone(self) -> bool:
        """Whether a service that has no better server may try this one.

        It may for as long as a first pause lasts after the first failure, which may have been a single one; and then
        once in each first pause, however long the pause has grown.
        """
        now, first_pause_s = self._rules.clock.now, self._rules.first_pause_s
        return now < self._since + first_pause_s or now >= self._tried_at + first_pause_s

    def begin_trial(self) -> None:
        """Send one request to the server; others wait for as long again, should it never tell how it went."""
        self._tried_at = self._rules.clock.now
        if self.is_due:
            self._is_on_trial = True
            self._begin_pause()

    def on_failure(self) -> None:
        """Lengthen the pause if this was the trial; requests that were under way when it began tell nothing new."""
        if self._is_on_trial:
            self._is_on_trial = False
            self._pause_s = min(self._pause_s * 2, self._rules.pause_limit_s)
            self._begin_pause()

    def _begin_pause(self) -> None:
        share = 1 - JITTER + 2 * JITTER * self._rules.random_share()
        self._retry_at = self._rules.clock.now + self._pause_s * share
