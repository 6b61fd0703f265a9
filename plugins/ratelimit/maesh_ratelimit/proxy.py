"""The proxy's half: each request takes a token, waits a short time for one, or gets 429.

The buckets belong to the node (buckets.py): its workers count together, and the buckets survive a worker that dies. All
workers use the machine's monotonic clock.
"""

import math
from collections.abc import Callable
from operator import attrgetter
from time import monotonic
from typing import Final

import msgspec

from maesh_core.plugin import Exchange, Middleware, Response
from maesh_ratelimit.buckets import BucketTable, build_key
from maesh_ratelimit.places import Places
from maesh_ratelimit.settings import ServiceLimit

REMEMBERED_LENGTH: Final = 64
"""Longer sources are hashed for each request, so that clients cannot fill the memory."""
LONGEST_WAIT_S: Final = 0.5
"""Longest wait of a request for its token, if there is less than one token per second (Traefik)."""
NO_WAIT_S: Final = 1e-7
"""A token that is due within this time counts as available, because sums of fractions are not exact."""


class RateLimit(Middleware):
    """The limit of one service. A request needs a token; there is a new one every `_interval_s`."""

    def __init__(
        self, settings: ServiceLimit, table: BucketTable, name: str, *, time: Callable[[], float] = monotonic
    ) -> None:
        self._settings = settings
        self._name = f"{name} {msgspec.json.encode(settings).decode()}"
        self._table, self._keys, self._times = table, table.keys, table.times
        self._time = time
        self._interval_s = settings.period_s / settings.average
        self._depth_s = (settings.burst - 1) * self._interval_s + NO_WAIT_S
        self._longest_wait_s = min(self._interval_s / 2, LONGEST_WAIT_S)
        self._farthest_wait_s = (1 + table.workers) * self._interval_s + self._longest_wait_s + NO_WAIT_S
        """Longest wait, for the last token of each worker and the next. Only a clock that was set back exceeds it."""
        self._own_count = table.own_count
        self._remembered = Places()
        self._places, self._looks = self._remembered.found, self._remembered.looks
        self._read = build_reader(settings.source)

    def __repr__(self) -> str:
        return f"<RateLimit {self._settings!r}>"

    def on_request(self, exchange: Exchange) -> Response | float | None:
        """Take a token. Returns None if there is one, the seconds until the next one, or the refusal."""
        source = exchange.client_address if self._read is None else self._read(exchange)
        now, times = self._time(), self._times
        place, key = self._places.get(source) or self._find(source, now)
        if self._keys[place] != key:  # another client now has the place
            place, key = self._find(source, now)
        full_at = times[place]
        wait_s = full_at - now - self._depth_s
        if wait_s > self._longest_wait_s:
            return self._refuse(place, now)
        times[place] = (full_at if full_at > now else now) + self._interval_s
        if self._own_count is not None:
            self._own_count[place] += 1
        return None if wait_s <= 0 else wait_s

    def _refuse(self, place: int, now: float) -> Response:
        """Refuse, after correcting the bucket for tokens that were lost when workers wrote at the same instant.

        The bucket's time is at least its time at an earlier check, plus an interval for each token since then.
        """
        taken = self._table.count_taken(place)  # before the time, because a worker writes its time before it counts
        full_at, tokens_s = self._times[place], self._interval_s
        earlier_taken, earlier_full_at = self._looks.get(place, (taken, full_at))
        owed_at = earlier_full_at + (taken - earlier_taken) * tokens_s
        if owed_at > full_at + tokens_s / 2:
            full_at = self._times[place] = owed_at
        else:
            self._looks[place] = (taken, full_at)
        wait_s = full_at - now - self._depth_s
        if wait_s > self._farthest_wait_s:
            wait_s = tokens_s
            self._times[place] = now + self._depth_s + wait_s
        return build_refusal(wait_s)

    def _find(self, source: str | bytes, now: float) -> tuple[int, int]:
        key = build_key(self._name, source)
        place = self._table.find(key, now)
        found = (place, key)
        self._looks.pop(place, None)
        if len(source) <= REMEMBERED_LENGTH:
            self._table.remember(self._remembered)
            self._places[source] = found
        return found


def build_reader(source: str) -> Callable[[Exchange], bytes] | None:
    """Build the function that identifies a client; None for its address. Requests without the header are one client."""
    if source == "ip":
        return None
    if source == "host":
        return attrgetter("host")
    name = source.partition(":")[2].encode()
    return lambda exchange: exchange.client_headers.get(name) or b""


def build_refusal(wait_s: float) -> Response:
    """Build the 429 (RFC 6585 section 4), with the time until the next token in Traefik's headers."""
    headers = ((b"Retry-After", b"%d" % math.ceil(wait_s)), (b"X-Retry-In", b"%.3fs" % wait_s))
    return Response(status=429, reason="too many requests", headers=headers)


class RateLimitFactory:
    """Builds the middleware of each service with a limit."""

    kind = "ratelimit"
    settings_type = ServiceLimit

    def __init__(self, table: BucketTable) -> None:
        self._table = table

    def build_middleware(self, settings: ServiceLimit, service: str) -> RateLimit:
        """Build the middleware of one service."""
        return RateLimit(settings, self._table, service)
