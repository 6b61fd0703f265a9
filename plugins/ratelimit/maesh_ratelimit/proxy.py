"""The proxy's half: each request takes a token of each limit, waits a short time for one, or gets 429.

The buckets belong to stores (store.py).
"""

import math
from collections.abc import Mapping
from typing import Final

from maesh_core.plugin import Exchange, Middleware, Response
from maesh_ratelimit.settings import Limit, ServiceLimits
from maesh_ratelimit.sources import Reader, build_reader
from maesh_ratelimit.store import Limiter, Store


class ActiveLimit:
    """A limit with its buckets, and the function that identifies a client; None for the address."""

    def __init__(self, limit: Limit, limiter: Limiter) -> None:
        self.limit: Final = limit
        self.limiter: Final = limiter
        self.read: Reader | None = build_reader(limit.sources)

    def __repr__(self) -> str:
        return f"<ActiveLimit {self.limiter!r}>"

    def identify(self, exchange: Exchange) -> str | bytes | None:
        """Return what identifies the client of a request; None if the limit does not apply to it."""
        return exchange.client_address if self.read is None else self.read(exchange)


class RateLimit(Middleware):
    """The limits of one service. A request needs a token of each that applies to it."""

    def __init__(self, settings: ServiceLimits, stores: Mapping[str, Store], service: str) -> None:
        self._settings = settings
        self._limits = [ActiveLimit(limit, _find_store(stores, limit, service)) for limit in settings.limits]
        self._first = self._limits[0]
        self._is_single = len(self._limits) == 1

    def __repr__(self) -> str:
        return f"<RateLimit {self._settings!r}>"

    def on_request(self, exchange: Exchange) -> Response | float | None:
        """Take a token of each limit. Returns None, the seconds until the last token is due, or the refusal."""
        if not self._is_single:
            return self._take_all(exchange)
        first = self._first
        source = exchange.client_address if first.read is None else first.read(exchange)
        if source is None:
            return None
        wait_s = first.limiter.take(source)
        if wait_s <= 0:
            return None
        return wait_s if wait_s <= first.limiter.longest_wait_s else build_refusal(wait_s)

    def _take_all(self, exchange: Exchange) -> Response | float | None:
        """Take a token of each limit; if one refuses, the others get theirs back."""
        longest_s = 0.0
        taken: list[tuple[Limiter, str | bytes]] = []
        for each in self._limits:
            source = each.identify(exchange)
            if source is None:
                continue
            wait_s = each.limiter.take(source)
            if wait_s > each.limiter.longest_wait_s:
                for limiter, other in taken:
                    limiter.give_back(other)
                return build_refusal(wait_s)
            taken.append((each.limiter, source))
            longest_s = max(longest_s, wait_s)
        return longest_s or None


def _find_store(stores: Mapping[str, Store], limit: Limit, service: str) -> Limiter:
    store = stores.get(limit.store)
    if store is None:
        raise ValueError(f"this proxy has no store {limit.store!r} for rate limits")
    return store.build_limiter(limit, service)


def build_refusal(wait_s: float) -> Response:
    """Build the 429 (RFC 6585 section 4), with the time until the next token in Traefik's headers."""
    headers = ((b"Retry-After", b"%d" % math.ceil(wait_s)), (b"X-Retry-In", b"%.3fs" % wait_s))
    return Response(status=429, reason="too many requests", headers=headers)


class RateLimitFactory:
    """Builds the middleware of each service with a limit; `stores` are those of this proxy, by name."""

    kind = "ratelimit"
    settings_type = ServiceLimits

    def __init__(self, stores: Mapping[str, Store]) -> None:
        self._stores = stores

    def build_middleware(self, settings: ServiceLimits, service: str) -> RateLimit:
        """Build the middleware of one service."""
        return RateLimit(settings, self._stores, service)
