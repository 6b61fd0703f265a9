"""The proxy's half: a token for each request, a short wait for one, or 429.

Buckets are those of the node (buckets.py), so workers count together, and a worker that dies takes none along. Time is
the machine's monotonic clock, which they share too.
"""

import math
from collections.abc import Callable
from operator import attrgetter
from time import monotonic
from typing import Final

import msgspec

from maesh_core.plugin import Exchange, Response
from maesh_ratelimit.buckets import BucketTable, build_key
from maesh_ratelimit.places import Places
from maesh_ratelimit.settings import ServiceLimit

REMEMBERED_LENGTH: Final = 64
"""Longer sources are hashed for each request: what a client sends must not be kept for nothing."""
LONGEST_WAIT_S: Final = 0.5
"""What a request may wait for its token where tokens come less than once a second (Traefik)."""
NO_WAIT_S: Final = 1e-7
"""A token that comes so soon is there: sums of fractions are not exact."""


class RateLimit:
    """The limit of one service. A request that finds a token passes; tokens come one in each `_interval_s`."""

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
        """Only a clock that was set back makes a longer wait: it is for the last token of each worker, and the next."""
        self._own_count = table.own_count
        self._remembered = Places()
        self._places, self._looks = self._remembered.found, self._remembered.looks
        self._read = build_reader(settings.source)

    def __repr__(self) -> str:
        return f"<RateLimit {self._settings!r}>"

    def on_request(self, exchange: Exchange) -> Response | float | None:
        """Take a token: None when there is one, the seconds until there is, or the refusal."""
        source = exchange.client_address if self._read is None else self._read(exchange)
        now, times = self._time(), self._times
        place, key = self._places.get(source) or self._find(source, now)
        if self._keys[place] != key:  # another client has the place now
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
        """Refuse, once what workers that wrote in one instant lost of each other is made up for.

        The bucket's time is at least what it was at an earlier look, and an interval more for each token since.
        """
        taken = self._table.count_taken(place)  # before the time: whoever has counted has written that before
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
    """Give what reads who a client is; None for its address. Requests without the header are one client's."""
    if source == "ip":
        return None
    if source == "host":
        return attrgetter("host")
    name = source.partition(":")[2].encode()
    return lambda exchange: exchange.client_headers.get(name) or b""


def build_refusal(wait_s: float) -> Response:
    """Build the 429 (RFC 6585 section 4), with the time until there is a token as Traefik tells it."""
    headers = ((b"Retry-After", b"%d" % math.ceil(wait_s)), (b"X-Retry-In", b"%.3fs" % wait_s))
    return Response(status=429, reason="too many requests", headers=headers)


class RateLimitFactory:
    """Builds the middleware of each service that has a limit."""

    kind = "ratelimit"
    settings_type = ServiceLimit

    def __init__(self, table: BucketTable) -> None:
        self._table = table

    def build_middleware(self, settings: ServiceLimit, service: str) -> RateLimit:
        """Build the middleware of one service."""
        return RateLimit(settings, self._table, service)
