"""What a store of token buckets is to the middleware: it builds a limiter for each limit of each service.

A limiter is called for every request, so its base class is compiled, and a store's limiters derive from it in a
compiled module. A store must not wait in `take`: what it needs from elsewhere it must have asked for before.
"""

import math
from collections.abc import Sequence
from typing import Final, Protocol

from maesh_core.plugin import MetricFamily
from maesh_ratelimit.settings import Limit
from maesh_ratelimit.store_report import StoreState

LONGEST_WAIT_S: Final = 0.5
"""Longest wait of a request for its token, if there is less than one token per second (Traefik)."""

ASK: Final = math.inf
"""What `take` returns if the store has no tokens for a client yet: the caller must await `ask`."""


class Limiter:
    """The buckets of one limit of one service: one for each client, which `source` identifies."""

    def __init__(self, limit: Limit) -> None:
        self.interval_s: float = limit.period_s / limit.average
        """Time between two new tokens of a bucket."""
        self.longest_wait_s: float = min(self.interval_s / 2, LONGEST_WAIT_S)

    def take(self, source: str | bytes) -> float:
        """Take a token of a client; return how many seconds the request must wait for it, 0 or less if not at all.

        Above `longest_wait_s`, no token was taken: the request is refused, and that is the time until the next token.
        """
        raise NotImplementedError

    async def ask(self, source: str | bytes) -> float:
        """Take a token of a client after asking the store; the result is that of `take`, but never ASK."""
        raise NotImplementedError

    def give_back(self, source: str | bytes) -> None:
        """Return the token that this client's request has just taken, because another limit refuses the request."""
        raise NotImplementedError

    def count_missing(self, source: str | bytes) -> float | None:
        """Return how many tokens a client's bucket lacks to be full, with fractions; above `burst` if some wait.

        None if that is not known here.
        """
        raise NotImplementedError


class Store(Protocol):
    """Keeps the buckets of limits; the wire name of a store is its key in `RateLimitFactory`."""

    def build_limiter(self, limit: Limit, service: str) -> Limiter:
        """Build the limiter of one limit of a service, `namespace/name`; equal limits of a service share buckets."""

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Return the metrics of the store in this worker."""

    def describe_state(self) -> StoreState | None:
        """Return the state of the store in this worker; None if it is never away."""
