"""The proxy's half: a token for each request, a short wait for one, or 429.

Buckets are those of the node (buckets.py), so workers count together, and a worker that dies takes none along. Time is
the machine's monotonic clock, which they share too.
"""

import math
from collections.abc import Callable, Sequence
from time import monotonic_ns
from typing import Annotated

import msgspec
from msgspec import Meta

from maesh_core.plugin import Exchange, MiddlewareFactory, Node, Response, hookimpl
from maesh_ratelimit.buckets import BUCKETS, BucketTable, build_key

REMEMBERED_LENGTH = 128
"""Longer sources are hashed for each request: what a client sends must not be kept for nothing."""
LONGEST_WAIT_NS = 500_000_000
"""What a request may wait for its token where tokens come less than once a second (Traefik)."""


FAR_NS = 1 << 60
"""36 years: times that far from now still fit into the 64 bits of a bucket."""


class ServiceLimit(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The limit of one service, as it travels from controller to proxy; `source` is ip, host or header:NAME."""

    average: Annotated[int, Meta(ge=1, le=10**9)]
    burst: Annotated[int, Meta(ge=1, le=10**9)]
    period_s: Annotated[float, Meta(gt=0)]
    source: str


class RateLimit:
    """The limit of one service. A request that finds a token passes; tokens come one in each `_interval`, in ns."""

    def __init__(
        self, settings: ServiceLimit, table: BucketTable, name: str, *, time: Callable[[], int] = monotonic_ns
    ) -> None:
        self._settings = settings
        self._name = f"{name} {msgspec.json.encode(settings).decode()}"
        self._table = table
        self._time = time
        self._interval = round(min(max(settings.period_s * 1e9 / settings.average, 1), FAR_NS))
        self._depth = min((settings.burst - 1) * self._interval, FAR_NS)
        self._longest_wait = min(self._interval // 2, LONGEST_WAIT_NS)
        self._places: dict[str | bytes, tuple[int, int]] = {}
        self._header = b""
        if settings.source == "host":
            self.on_request = self._limit_host
        elif settings.source.startswith("header:"):
            self._header = settings.source.partition(":")[2].encode()
            self.on_request = self._limit_header
        else:
            self.on_request = self._limit_address

    def __repr__(self) -> str:
        return f"<RateLimit {self._settings!r}>"

    def _limit_address(self, exchange: Exchange) -> Response | float | None:
        return self.admit(exchange.client_address)

    def _limit_host(self, exchange: Exchange) -> Response | float | None:
        return self.admit(exchange.host)

    def _limit_header(self, exchange: Exchange) -> Response | float | None:
        """Count by a header's value; requests without it count together."""
        return self.admit(exchange.client_headers.get(self._header) or b"")

    def admit(self, source: str | bytes) -> Response | float | None:
        """Take a token: None when there is one, the seconds until there is, or the refusal."""
        now = self._time()
        table = self._table
        found = self._places.get(source)
        if found is None or table.keys[found[0]] != found[1]:
            found = self._find(source, now)
        place = found[0]
        full_at = table.times[place]
        wait = full_at - now - self._depth
        if wait <= 0:
            table.times[place] = (full_at if full_at > now else now) + self._interval
            return None
        if wait <= self._longest_wait:
            table.times[place] = full_at + self._interval
            return wait / 1e9
        if wait > self._interval + self._longest_wait:  # no request made it so: the clock has been set back
            wait = self._interval
            table.times[place] = now + self._depth + wait
        return _refuse(wait / 1e9)

    def _find(self, source: str | bytes, now: int) -> tuple[int, int]:
        key = build_key(self._name, source)
        found = (self._table.find(key, now), key)
        if len(source) <= REMEMBERED_LENGTH:
            if len(self._places) >= BUCKETS:
                self._places.clear()
            self._places[source] = found
        return found


def _refuse(wait_s: float) -> Response:
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


class ProxyHalf:
    """What a proxy loads."""

    @hookimpl
    def maesh_middleware_factories(self, node: Node) -> Sequence[MiddlewareFactory]:
        """Give the one factory of this plugin."""
        return [RateLimitFactory(BucketTable(node))]
