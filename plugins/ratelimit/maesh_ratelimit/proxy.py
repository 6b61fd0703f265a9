"""The proxy's half: each request takes a token of each limit, waits a short time for one, or gets 429.

The buckets belong to stores (store.py).
"""

import math
from collections.abc import Awaitable, Mapping, Sequence
from typing import Final

import msgspec

from maesh_core.plugin import Exchange, MetricFamily, Middleware, Node, Response, SourceReader
from maesh_ratelimit.fields import build_policy_field, render_limit
from maesh_ratelimit.settings import Limit, ServiceLimits
from maesh_ratelimit.store import ASK, Limiter, Store
from maesh_ratelimit.store_report import REPORT_NAME, WorkerStores

Decision = Response | float | None
"""The refusal, the seconds until the request's last token is due, or None if it passes at once."""
Taken = list[tuple[Limiter, str | bytes]]
"""The limiters that have given a token to a request, and its client there."""


class ActiveLimit:
    """A limit with its buckets, and the function that identifies a client; None for the address."""

    def __init__(self, limit: Limit, limiter: Limiter, read: SourceReader | None) -> None:
        self.limit: Final = limit
        self.limiter: Final = limiter
        self.read: Final = read

    def __repr__(self) -> str:
        return f"<ActiveLimit {self.limiter!r}>"

    def identify(self, exchange: Exchange) -> str | bytes | None:
        """Return what identifies the client of a request; None if the limit does not apply to it."""
        return exchange.client_address if self.read is None else self.read(exchange)


class RateLimit(Middleware):
    """The limits of one service. A request needs a token of each that applies to it."""

    def __init__(self, settings: ServiceLimits, limits: Sequence[ActiveLimit]) -> None:
        self._settings = settings
        self._limits = list(limits)
        self._first = self._limits[0]
        self._is_single = len(self._limits) == 1

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._settings!r}>"

    def on_request(self, exchange: Exchange) -> Decision | Awaitable[Decision]:
        """Take a token of each limit; a store may have to be asked for it."""
        if not self._is_single:
            return self._take_all(exchange)
        first = self._first
        source = exchange.client_address if first.read is None else first.read(exchange)
        if source is None:
            return None
        wait_s = first.limiter.take(source)
        if wait_s <= 0:
            return None
        if wait_s <= first.limiter.longest_wait_s:
            return wait_s
        return self._ask(exchange, 0, []) if wait_s == ASK else self.refuse(exchange, wait_s)

    def _take_all(self, exchange: Exchange) -> Decision | Awaitable[Decision]:
        """Take a token of each limit; if one refuses, the others get theirs back."""
        longest_s = 0.0
        taken: Taken = []
        for index, each in enumerate(self._limits):
            source = each.identify(exchange)
            if source is None:
                continue
            wait_s = each.limiter.take(source)
            if wait_s > each.limiter.longest_wait_s:
                if wait_s == ASK:
                    return self._ask(exchange, index, taken, longest_s)
                _give_back(taken)
                return self.refuse(exchange, wait_s)
            taken.append((each.limiter, source))
            longest_s = max(longest_s, wait_s)
        return longest_s or None

    async def _ask(self, exchange: Exchange, start: int, taken: Taken, longest_s: float = 0.0) -> Decision:
        """Continue as `_take_all` from a limit whose store must be asked."""
        for each in self._limits[start:]:
            source = each.identify(exchange)
            if source is None:
                continue
            wait_s = each.limiter.take(source)
            if wait_s == ASK:
                wait_s = await each.limiter.ask(source)
            if wait_s > each.limiter.longest_wait_s:
                _give_back(taken)
                return self.refuse(exchange, wait_s)
            taken.append((each.limiter, source))
            longest_s = max(longest_s, wait_s)
        return longest_s or None

    def refuse(self, exchange: Exchange, wait_s: float) -> Response:
        """Build the 429 (RFC 6585 section 4), with the time until the next token in Traefik's headers."""
        return Response(status=429, reason="too many requests", headers=build_retry_fields(wait_s))


class ReportingRateLimit(RateLimit):
    """Limits that tell clients about themselves in the headers RateLimit and RateLimit-Policy."""

    def __init__(self, settings: ServiceLimits, limits: Sequence[ActiveLimit]) -> None:
        super().__init__(settings, limits)
        self._policy = build_policy_field(settings.limits)

    def refuse(self, exchange: Exchange, wait_s: float) -> Response:
        """Build the 429 with all headers."""
        fields = [*build_retry_fields(wait_s), (b"RateLimit-Policy", self._policy)]
        if limits := self._render(exchange):
            fields.append((b"RateLimit", limits))
        return Response(status=429, reason="too many requests", headers=tuple(fields))

    def on_response(self, exchange: Exchange) -> None:
        """Add the headers to a server's response; both are lists, so those of the server remain."""
        exchange.response_headers.add(b"RateLimit-Policy", self._policy)
        if limits := self._render(exchange):
            exchange.response_headers.add(b"RateLimit", limits)

    def _render(self, exchange: Exchange) -> bytes:
        parts: list[bytes] = []
        for each in self._limits:
            source = each.identify(exchange)
            missing = None if source is None else each.limiter.count_missing(source)
            if missing is not None:
                parts.append(render_limit(each.limit, missing))
        return b", ".join(parts)


def _give_back(taken: Taken) -> None:
    for limiter, source in taken:
        limiter.give_back(source)


def build_retry_fields(wait_s: float) -> tuple[tuple[bytes, bytes], ...]:
    """Build the fields of a refusal: whole seconds (RFC 9110 section 10.2.3), and Traefik's with fractions."""
    return ((b"Retry-After", b"%d" % math.ceil(wait_s)), (b"X-Retry-In", b"%.3fs" % wait_s))


class RateLimitFactory:
    """Builds the middleware of each service with limits; `stores` are those of this proxy, by name."""

    kind = "ratelimit"
    settings_type = ServiceLimits
    report_name = REPORT_NAME

    def __init__(self, node: Node, stores: Mapping[str, Store]) -> None:
        self._node, self._stores = node, stores

    def build_middleware(self, settings: ServiceLimits, service: str) -> RateLimit:
        """Build the middleware of one service; raises ValueError for a source or store that this proxy lacks."""
        limits = [self._activate(limit, service) for limit in settings.limits]
        return ReportingRateLimit(settings, limits) if settings.shows_headers else RateLimit(settings, limits)

    def _activate(self, limit: Limit, service: str) -> ActiveLimit:
        store = self._stores.get(limit.store)
        if store is None:
            raise ValueError(f"this proxy has no store {limit.store!r} for rate limits")
        return ActiveLimit(limit, store.build_limiter(limit, service), self._node.build_source_reader(limit.sources))

    def build_report(self) -> bytes:
        """Return the states of those stores that may be away, as JSON."""
        states = [state for store in self._stores.values() if (state := store.describe_state()) is not None]
        return msgspec.json.encode(WorkerStores(stores=tuple(states)))

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Return the metrics of the stores."""
        return [family for store in self._stores.values() for family in store.collect_metrics()]
