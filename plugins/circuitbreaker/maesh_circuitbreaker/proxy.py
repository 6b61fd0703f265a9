"""The proxy's half: closed, open and recovering, for all workers of the node at once.

The result of every attempt counts, including retried ones. When the breaker opens, it ends the retries. A gRPC call
counts as the HTTP status of its gRPC status, which is known at the end of the call if it is in the trailers.
"""

import logging
from collections.abc import Sequence
from math import ceil
from time import monotonic
from typing import Final

import msgspec

from maesh_circuitbreaker.expression import CODES, LATENCY, Metric, Parser
from maesh_circuitbreaker.settings import ServiceBreaker
from maesh_core.plugin import Exchange, MetricFamily, Middleware, Node, RecentCounts, Response

CLOSED: Final = 0.0
OPEN: Final = 1.0
RECOVERING: Final = 2.0
STATE: Final = 0
UNTIL: Final = 1
SINCE: Final = 2
"""Cells that workers share: the state, the time of its end, and the time since which counts apply, in seconds."""
HTTP_STATUSES: Final = (200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401)
"""The HTTP status of each gRPC status from 0 to 16 (the comments in google/rpc/code.proto)."""
LATENCY_BOUNDS_MS: Final = sorted({round(1.015**power) for power in range(1024)})  # 1.5 % apart, up to an hour


class CircuitBreaker(Middleware):
    """The breaker of one service. It adds itself to `opened` when it sees that it is not closed."""

    def __init__(self, settings: ServiceBreaker, node: Node, name: str, opened: set["CircuitBreaker"]) -> None:
        self._name, self._time = name, monotonic
        self._settings = settings
        parser = Parser(settings.expression)
        self._is_met = parser.parse()
        codes = [int(code) for metric, arguments in parser.metrics if metric == CODES for code in arguments]
        key = f"circuitbreaker/{name}/{msgspec.json.encode(settings).decode()}"
        self._cells = node.share(key, 8 * 3).view.cast("d")
        self._statuses = node.count_recent(key, bounds=(0, 502, 503, 504, 505, 600, *codes), periods=10, period_s=1)
        self._latencies: RecentCounts | None = None
        if any(metric == LATENCY for metric, _ in parser.metrics):
            self._latencies = node.count_recent(key + LATENCY, bounds=LATENCY_BOUNDS_MS, periods=6, period_s=10)
        self._counted = [0] * 1000
        self._calls: set[Exchange] = set()
        self._opened = opened
        self.ports: set[str] = set()
        """The keys of the service ports whose requests it has seen, for metrics."""
        self._is_open = False
        self._checked_at = self._counted_at = self._next_at = self._ramp_ends_at = self._allowed = self._denied = 0.0

    def __repr__(self) -> str:
        return f"circuit breaker of {self._name}: {('closed', 'open', 'recovering')[int(self._cells[STATE])]}"

    @property
    def is_open(self) -> bool:
        """Whether it refuses all requests now."""
        return self._cells[STATE] == OPEN and self._time() < self._cells[UNTIL]

    def on_request(self, exchange: Exchange) -> Response | None:
        """Forward requests while closed, none while open, and a share that grows to one half while recovering."""
        if not self._cells[STATE]:
            return None
        self._opened.add(self)
        self.ports.add(exchange.service)
        now = self._time()
        left = self._cells[UNTIL] - now
        if self._cells[STATE] == OPEN:
            if left > 0:
                return _refuse(left)
            left = self._settings.recovery_duration
            self._change(RECOVERING, now + left)
        if left <= 0:
            self._change(CLOSED, 0)
            return None
        if self._cells[UNTIL] != self._ramp_ends_at:  # a new recovery
            self._ramp_ends_at, self._allowed, self._denied = self._cells[UNTIL], 0.0, 0.0
        if (self._allowed + 1) / (self._allowed + self._denied + 1) < 0.5 * (
            1 - left / self._settings.recovery_duration
        ):
            self._allowed += 1
            return None
        self._denied += 1
        return _refuse(left)

    def on_attempt(self, exchange: Exchange) -> Response | None:
        """Check each attempt like a request, because another worker may have opened the breaker meanwhile."""
        return self.on_request(exchange)

    def on_response(self, exchange: Exchange, error: Exception | None = None) -> bool | None:
        """Count an attempt by the status that the client would get for it; False ends the retries."""
        now, status = self._time(), exchange.status if error is None else getattr(error, "status", 502)
        if self._latencies is not None:
            self._latencies.add(exchange.attempt_seconds * 1000, now)
        if error is None and exchange.is_grpc:
            grpc_status = exchange.grpc_status
            if grpc_status is None:
                self._calls.add(exchange)  # on_finished counts it
                return False if self._is_open else None
            status = HTTP_STATUSES[grpc_status]
        self._count(exchange, status, now)
        return False if self._is_open else None

    def on_finished(self, exchange: Exchange) -> None:
        """Count a gRPC call whose status was in the trailers."""
        if self._calls and exchange in self._calls:
            self._calls.discard(exchange)
            self._count(exchange, HTTP_STATUSES[exchange.grpc_status or 0], self._time())

    def _count(self, exchange: Exchange, status: int, now: float) -> None:
        if now < self._next_at:
            self._counted[status] += 1  # only in this process, which costs a tenth
        else:
            self.ports.add(exchange.service)
            self._tell(status, now)

    def on_attempt_failed(self, exchange: Exchange, error: Exception) -> bool | None:
        """Count it like a response with the status of the error."""
        return self.on_response(exchange, error)

    def _tell(self, status: int, now: float) -> None:
        """Share the counts of the last check period or second with the other workers, and evaluate the expression."""
        for counted in filter(self._counted.__getitem__, range(len(self._counted))):
            self._statuses.add(counted, self._counted_at, self._counted[counted])
            self._counted[counted] = 0
        self._statuses.add(status, now)
        self._counted_at, self._next_at = now, now + min(self._settings.check_period, 1.0)
        if now - self._checked_at >= self._settings.check_period:
            self._checked_at = now
            if self._cells[STATE] != OPEN and self._is_met(self._read):
                self._cells[SINCE] = now
                self._change(OPEN, now + self._settings.fallback_duration)
        self._is_open = self._cells[STATE] == OPEN
        if self._is_open:
            self._opened.add(self)

    def _read(self, metric: Metric) -> float:
        """Read a metric from the statuses of ten seconds or the latencies of a minute."""
        (name, arguments), now, since = metric, self._checked_at, self._cells[SINCE]
        if name == LATENCY and self._latencies is not None:
            return self._latencies.read(now, since).find_quantile(arguments[0])
        statuses = self._statuses.read(now, since)
        first, end, *whole = arguments or (502, 503, 0, 600)
        counted = statuses.count(first, end) + (0 if arguments else statuses.count(504, 505))
        return counted / (statuses.count(*whole) or float("inf"))

    def _change(self, state: float, until: float) -> None:
        self._cells[UNTIL] = until
        self._cells[STATE] = state
        logging.getLogger(__name__).warning("%s", self)


def _refuse(left: float) -> Response:
    return Response(status=503, reason="the circuit breaker is open", headers=((b"Retry-After", b"%d" % ceil(left)),))


class BreakerFactory:
    """Builds the breakers of services, and reports those that are open. Implements `CountingFactory`."""

    kind = "circuitbreaker"
    settings_type = ServiceBreaker

    def __init__(self, node: Node) -> None:
        self._node = node
        self._opened: set[CircuitBreaker] = set()

    def build_middleware(self, settings: ServiceBreaker, service: str) -> CircuitBreaker:
        """Build the breaker of one service."""
        return CircuitBreaker(settings, self._node, service, self._opened)

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Return the service ports whose breaker is open and has seen requests in this worker."""
        self._opened.difference_update([breaker for breaker in self._opened if not breaker.is_open])
        ports = {port for breaker in self._opened for port in breaker.ports}
        return [
            MetricFamily(
                name="maesh_circuitbreaker_open",
                type="gauge",
                help="Services whose circuit breaker is open; the number of workers that had requests for them.",
                labels=("service",),
                samples=[((port,), 1) for port in sorted(ports)],
            )
        ]
