"""The proxy's half: counts each request until its end, and refuses requests above the limit at once, without a queue.

At the limit of a service, all clients get 503, because the service is busy. At its own limit, a client gets 429,
because it sends too much. Refused requests are never counted, so they are not counted down at their end.
"""

from collections.abc import Sequence
from typing import Final
from weakref import WeakValueDictionary

import msgspec

from maesh_concurrency.adapting import AdaptiveLimit
from maesh_concurrency.counting import ClientCounts, ClientTable, RunningClient, ServiceCount
from maesh_concurrency.kept import Kept
from maesh_concurrency.settings import ServiceConcurrency
from maesh_core.plugin import Exchange, MetricFamily, Middleware, Node, Response, SourceReader

RETRY_FIELDS: Final = ((b"Retry-After", b"1"),)
SERVICE_BUSY: Final = Response(status=503, reason="the service has too many running requests", headers=RETRY_FIELDS)
CLIENT_BUSY: Final = Response(status=429, reason="the client has too many running requests", headers=RETRY_FIELDS)


class ConcurrencyLimit(Middleware):
    """The limit of one service: so many requests of all clients run at once on the node."""

    def __init__(self, limit: int, count: ServiceCount, refusals: dict[str, int]) -> None:
        self._limit, self._count, self._refusals = limit, count, refusals
        self._refused: set[Exchange] = set()
        self.kept: Kept | None = None
        """Keeps the counts of requests that still run; set by the factory."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._count!r} of {self.read_limit()}>"

    def read_limit(self) -> int:
        """Return the limit that is in force."""
        return self._limit

    def on_request(self, exchange: Exchange) -> Response | None:
        """Count the request, or refuse it."""
        if self._count.count() >= self.read_limit():
            self._refused.add(exchange)
            self._refusals[exchange.service] = self._refusals.get(exchange.service, 0) + 1
            return SERVICE_BUSY
        self._count.add(1)
        return None

    def on_finished(self, exchange: Exchange) -> None:
        """Count the request down, unless it was refused here."""
        if self._refused and exchange in self._refused:
            self._refused.discard(exchange)
        else:
            self._count.add(-1)


class AdaptiveConcurrencyLimit(ConcurrencyLimit):
    """A limit that follows the latency of the servers."""

    def __init__(self, adaptive: AdaptiveLimit, count: ServiceCount, refusals: dict[str, int], node: Node) -> None:
        super().__init__(0, count, refusals)
        self._adaptive = adaptive
        self._clock = node.clock

    def read_limit(self) -> int:
        """Return the current limit."""
        return self._adaptive.read()

    def on_response(self, exchange: Exchange) -> None:
        """Measure the time from the attempt's beginning to the head of its response."""
        self._adaptive.add_sample(exchange.attempt_seconds, self._count.count(), self._clock.now)

    def on_attempt_failed(self, exchange: Exchange, error: Exception) -> None:
        """Measure an attempt that got no response, such as one that timed out."""
        self._adaptive.add_sample(exchange.attempt_seconds, self._count.count(), self._clock.now)


class ClientConcurrencyLimit(Middleware):
    """The limit of each client of one service; `read` is None for the address."""

    def __init__(self, limit: int, counts: ClientCounts, read: SourceReader | None, refusals: dict[str, int]) -> None:
        self._limit, self._counts, self._read, self._refusals = limit, counts, read, refusals
        self._running: dict[Exchange, RunningClient] = {}
        self.kept: Kept | None = None
        """Keeps the counts of requests that still run; set by the factory."""

    def __repr__(self) -> str:
        return f"<ClientConcurrencyLimit {self._counts!r}, {self._limit} for each>"

    def on_request(self, exchange: Exchange) -> Response | None:
        """Count the request for its client, or refuse it."""
        found = exchange.client_address if self._read is None else self._read(exchange)
        if found is None:
            return None
        client = self._counts.begin(found if isinstance(found, bytes) else found.encode(), self._limit)
        if client is None:
            self._refusals[exchange.service] = self._refusals.get(exchange.service, 0) + 1
            return CLIENT_BUSY
        self._running[exchange] = client
        return None

    def on_finished(self, exchange: Exchange) -> None:
        """Count the request down, if it was counted."""
        client = self._running.pop(exchange, None)
        if client is not None:
            self._counts.end(client)


class ConcurrencyFactory:
    """Builds the limits of services, and reports what runs and what they refused. Implements `CountingFactory`."""

    kind = "concurrency"
    settings_type = ServiceConcurrency

    def __init__(self, node: Node) -> None:
        self._node = node
        self._refusals: dict[str, int] = {}
        self._kept: WeakValueDictionary[str, Kept] = WeakValueDictionary()
        self._table: ClientTable | None = None

    def build_middleware(self, settings: ServiceConcurrency, service: str) -> Middleware:
        """Build the limit of one service; raises ValueError for a source that this proxy does not know."""
        name = f"{service} {msgspec.json.encode(settings).decode()}"
        if settings.sources:
            return self._build_for_clients(settings, service, name)
        kept = self._kept.get(name)
        count = kept.count if kept is not None else ServiceCount(self._node, name)
        limit: ConcurrencyLimit
        if settings.is_adaptive:
            adaptive = AdaptiveLimit(self._node, name, smallest=settings.smallest, largest=settings.limit)
            limit = AdaptiveConcurrencyLimit(adaptive, count, self._refusals, self._node)
            limit.kept = self._keep(name, kept or Kept(service, count, adaptive.read))
        else:
            limit = ConcurrencyLimit(settings.limit, count, self._refusals)
            limit.kept = self._keep(name, kept or Kept(service, count, lambda: settings.limit))
        return limit

    def _build_for_clients(self, settings: ServiceConcurrency, service: str, name: str) -> Middleware:
        if self._table is None and self._node.workers > 1:
            self._table = ClientTable(self._node)
        kept = self._kept.get(name) or Kept(service, ClientCounts(self._table, name), lambda: settings.limit)
        read = self._node.build_source_reader(settings.sources)
        limit = ClientConcurrencyLimit(settings.limit, kept.count, read, self._refusals)
        limit.kept = self._keep(name, kept)
        return limit

    def _keep(self, name: str, kept: Kept) -> Kept:
        self._kept[name] = kept
        return kept

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Return what runs in this worker, the limits in force of the node, and what this worker has refused."""
        running: dict[tuple[str, ...], float] = {}
        limits: dict[tuple[str, ...], float] = {}
        for kept in list(self._kept.values()):
            running[kept.service,] = running.get((kept.service,), 0) + kept.count.own
            limits[kept.service,] = max(limits.get((kept.service,), 0), kept.read_limit())
        return [
            MetricFamily(
                name="maesh_concurrency_refused_total",
                type="counter",
                help="Requests that a concurrency limit refused.",
                labels=("service",),
                samples=[((port,), number) for port, number in sorted(self._refusals.items())],
            ),
            MetricFamily(
                name="maesh_concurrency_running",
                type="gauge",
                help="Running requests of services with a concurrency limit.",
                labels=("limited_service",),
                samples=sorted(running.items()),
            ),
            MetricFamily(
                name="maesh_concurrency_limit",
                type="gauge",
                help="The concurrency limit in force, of each client if it has a source.",
                labels=("limited_service",),
                samples=sorted(limits.items()) if self._node.slot == 0 else [],
            ),
        ]
