"""The proxy's half: closed, open and recovering, for all workers of the node at once.

Every attempt's outcome counts, those that are retried too; a breaker that opens ends the retrying.
"""

import logging
from collections.abc import Sequence
from math import ceil
from time import monotonic

import msgspec

from maesh_circuitbreaker import CircuitBreakerSettings
from maesh_circuitbreaker.expression import CODES, LATENCY, Metric, Parser
from maesh_core.plugin import Exchange, MiddlewareFactory, Node, RecentCounts, Response, hookimpl

CLOSED, OPEN, RECOVERING = 0.0, 1.0, 2.0
STATE, UNTIL, SINCE = range(3)
"""Cells that workers share: the state, when it ends, and since when what was counted counts. Times are in ns."""
LATENCY_BOUNDS_MS = sorted({round(1.015**power) for power in range(1024)})  # 1.5 % apart, up to an hour


class ServiceBreaker(CircuitBreakerSettings, frozen=True, kw_only=True):
    """The breaker of one service, as it travels from controller to proxy."""

    expression: str


class CircuitBreaker:
    """The breaker of one service."""

    def __init__(self, settings: ServiceBreaker, node: Node, name: str) -> None:
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
        self._is_open = False
        self._checked_at = self._counted_at = self._next_at = self._ramp_ends_at = self._allowed = self._denied = 0.0

    def __repr__(self) -> str:
        return f"circuit breaker of {self._name}: {('closed', 'open', 'recovering')[int(self._cells[STATE])]}"

    def on_request(self, exchange: Exchange) -> Response | None:
        """Let requests through while closed, none while open, and a share that grows to one half while recovering."""
        if not self._cells[STATE]:
            return None
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
        if self._cells[UNTIL] != self._ramp_ends_at:  # another recovery than the one before
            self._ramp_ends_at, self._allowed, self._denied = self._cells[UNTIL], 0, 0
        if (self._allowed + 1) / (self._allowed + self._denied + 1) < 0.5 * (
            1 - left / self._settings.recovery_duration
        ):
            self._allowed += 1
            return None
        self._denied += 1
        return _refuse(left)

    on_attempt = on_request

    def on_response(self, exchange: Exchange, error: Exception | None = None) -> bool | None:
        """Count an attempt's outcome, by the status that the client would get for it; False ends the retrying."""
        now, status = self._time(), exchange.status if error is None else getattr(error, "status", 502)
        if self._latencies is not None:
            self._latencies.add(exchange.attempt_seconds * 1000, now)
        if now < self._next_at:
            self._counted[status] += 1  # in this process alone, at a tenth of the price
        else:
            self._tell(status, now)
        return False if self._is_open else None

    on_attempt_failed = on_response

    def _tell(self, status: int, now: float) -> None:
        """Tell the other workers what was counted in the last check period or second, and look at the expression."""
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

    def _read(self, metric: Metric) -> float:
        """Read a metric, of the statuses of ten seconds or the latencies of a minute."""
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


class ProxyHalf:
    """What a proxy loads, and what builds its breakers; the plugin's own settings have gone into each service's."""

    kind = "circuitbreaker"
    settings_type = ServiceBreaker

    def __init__(self, settings: CircuitBreakerSettings) -> None:
        self._settings = settings

    @hookimpl
    def maesh_middleware_factories(self, node: Node) -> Sequence[MiddlewareFactory]:
        """Give the one factory of this plugin."""
        self._node = node
        return [self]

    def build_middleware(self, settings: ServiceBreaker, service: str) -> CircuitBreaker:
        """Build the breaker of one service."""
        return CircuitBreaker(settings, self._node, service)
