"""Passive health: learns from the traffic which servers fail, and sets them aside for a while.

Takes reports of failures and successes from the code that makes connections. A server is set aside if a connect fails
or if a connection breaks before a response head. When its pause is over, one request tries it: a response head returns
it to full use, another failure doubles the pause. The balancer decides which server a request uses (balancer.py). The
log has a line when a server fails its first trial, and one when it is in use again. A single failure is not logged:
replacing pods causes some.
"""

import logging
import random
from collections.abc import Callable
from typing import Final, Protocol

from maesh_core.settings import CarryingSettings

JITTER: Final = 0.2
"""The share by which a pause is randomly longer or shorter, so that proxies and workers do not all retry at once."""


_logger = logging.getLogger(__name__)


class Time(Protocol):
    """A clock: `now` in seconds, which may be coarse."""

    now: float


class MonitoredServer(Protocol):
    """The part of a server that this module uses. `aside` is None in full use; requests then read nothing else."""

    aside: "Aside | None"

    def describe(self) -> str:
        """Name the server in the log."""


class PassiveHealth:
    """Sets the servers of a handler aside. A first pause of 0 disables this."""

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

    def on_failure(self, server: MonitoredServer) -> bool:
        """Set a server aside, or count its trial as failed; return whether it was in full use before."""
        if server.aside is not None:
            if server.aside.on_failure():
                _logger.warning("server %s is set aside: it keeps failing", server.describe())
            return False
        if not self.first_pause_s:
            return False
        server.aside = Aside(self)
        return True

    def on_success(self, server: MonitoredServer) -> None:
        """Return a server to full use."""
        if server.aside is not None and server.aside.is_logged:
            _logger.warning("server %s is in use again", server.describe())
        server.aside = None


class Aside:
    """The state of a server that is set aside. `is_logged` once a trial has failed."""

    __slots__ = ("_is_on_trial", "_pause_s", "_retry_at", "_rules", "_since", "_tried_at", "is_logged")

    def __init__(self, rules: PassiveHealth) -> None:
        self._rules = rules
        self._since = self._tried_at = rules.clock.now
        self._pause_s = rules.first_pause_s
        self._is_on_trial = False
        self._retry_at = 0.0
        self.is_logged = False
        self._begin_pause()

    def __repr__(self) -> str:
        left_s = self._retry_at - self._rules.clock.now
        return f"<Aside for {left_s:.2f} s{', on trial' if self._is_on_trial else ''}>"

    @property
    def is_due(self) -> bool:
        """Whether the pause is over, so that one request may try the server."""
        return self._rules.clock.now >= self._retry_at

    @property
    def is_due_alone(self) -> bool:
        """Whether a service that has no better server may try this one.

        It may during the first pause after the first failure, which may have been an isolated one. After that, it may
        once per first pause, however long the pause has become.
        """
        now, first_pause_s = self._rules.clock.now, self._rules.first_pause_s
        return now < self._since + first_pause_s or now >= self._tried_at + first_pause_s

    def begin_trial(self) -> None:
        """Record that one request tries the server; others wait for another pause, in case it reports no result."""
        self._tried_at = self._rules.clock.now
        if self.is_due:
            self._is_on_trial = True
            self._begin_pause()

    def on_failure(self) -> bool:
        """Lengthen the pause if this was the trial; failures of requests from before the trial do not count.

        Returns whether it was the first trial that failed.
        """
        if not self._is_on_trial:
            return False
        self._is_on_trial = False
        self._pause_s = min(self._pause_s * 2, self._rules.pause_limit_s)
        self._begin_pause()
        is_first = not self.is_logged
        self.is_logged = True
        return is_first

    def _begin_pause(self) -> None:
        share = 1 - JITTER + 2 * JITTER * self._rules.random_share()
        self._retry_at = self._rules.clock.now + self._pause_s * share


def build_passive_health(settings: CarryingSettings, clock: Time) -> PassiveHealth:
    """Build the rules that the settings of a proxy ask for."""
    return PassiveHealth(
        clock,
        first_pause_s=settings.server_pause if settings.passive_health else 0.0,
        pause_limit_s=settings.server_pause_limit,
    )
