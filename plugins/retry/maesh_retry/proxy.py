"""The proxy's half: decides after each failed attempt whether there is another, and when.

A request that a server may have processed is sent again only if its method is idempotent (RFC 9110 section 9.2.2). A
gRPC call, whose method is always POST, is also sent again if `retry-on` names the gRPC status of its failure. The proxy
itself decides whether a request can be sent again at all, and to which server.
"""

import random
from typing import Final

from maesh_core.plugin import Exchange, Middleware, UpstreamNotReachedError, UpstreamTimeoutError
from maesh_retry.settings import ServiceRetry

IDEMPOTENT: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})
DEADLINE_EXCEEDED: Final = 4
UNAVAILABLE: Final = 14
"""The gRPC statuses that the mesh's own errors become: 504, and 502 or 503."""
SPREAD: Final = 1.25
"""Pauses with a least duration are up to a quarter longer."""
RESERVE: Final = 100.0
"""Maximum number of attempts that a budget saves, so that the savings of a quiet hour do not worsen an outage."""


class Retry(Middleware):
    """The retries of one service or rule."""

    kept_bytes: int

    def __init__(self, settings: ServiceRetry) -> None:
        self.kept_bytes = settings.body_limit
        self._settings = settings
        self._errors = frozenset(settings.errors)
        self._statuses = frozenset(status for first, last in settings.statuses for status in range(first, last + 1))
        self._grpc_statuses = frozenset(settings.grpc_statuses)
        self._saved = 0.0

    def __repr__(self) -> str:
        return f"<Retry {self._settings!r}>"

    def on_attempt_failed(self, exchange: Exchange, error: Exception) -> float | None:
        """Request another attempt after an error in `retry-on`, if a repetition cannot have an effect twice."""
        if isinstance(error, UpstreamNotReachedError):
            is_wanted = "connect-failure" in self._errors
        else:
            kind = "timeout" if isinstance(error, UpstreamTimeoutError) else "reset"
            is_wanted = kind in self._errors and exchange.method in IDEMPOTENT
        if not is_wanted and self._grpc_statuses and exchange.is_grpc:
            is_late = getattr(error, "status", 502) == 504
            is_wanted = (DEADLINE_EXCEEDED if is_late else UNAVAILABLE) in self._grpc_statuses
        return self._ask(exchange) if is_wanted else None

    def _judge(self, exchange: Exchange) -> float | None:
        """Request another attempt after a status in `retry-on`.

        The gRPC status is known here only if the call had no other response: its head has the status.
        """
        if exchange.status in self._statuses and exchange.method in IDEMPOTENT:
            return self._ask(exchange)
        if self._grpc_statuses and exchange.grpc_status in self._grpc_statuses:
            return self._ask(exchange)
        return None

    def _ask(self, exchange: Exchange) -> float | None:
        """Return the pause before another attempt, and charge it to the budget; None for no further attempt."""
        settings = self._settings
        if exchange.attempts >= settings.attempts or not exchange.can_repeat:
            return None
        if settings.budget:
            if self._saved < 1:
                return None
            self._saved -= 1
        if settings.backoff_least_s:
            return self._draw_pause(exchange.attempts)
        if not settings.backoff_s:
            return 0.0
        longest_s = min(settings.backoff_limit_s, settings.backoff_s * 2 ** (exchange.attempts - 1))
        return random.uniform(0, longest_s)  # noqa: S311 - clients that failed together must not come back together

    def _draw_pause(self, attempts: int) -> float:
        """Draw a pause that is not shorter than the least one, which doubles up to the limit (GEP-1731)."""
        least_s = self._settings.backoff_least_s
        longest_s = max(self._settings.backoff_limit_s, least_s)
        pause_s: float = min(least_s * 2 ** (attempts - 1), longest_s)
        return pause_s * random.uniform(1, SPREAD)  # noqa: S311 - as above


class PreparingRetry(Retry):
    """Retries with a time-out for each attempt, or with a budget."""

    def on_request(self, exchange: Exchange) -> None:
        """Set the time-out, and add to the budget."""
        if self._settings.timeout_s:
            exchange.attempt_timeout_s = self._settings.timeout_s
        self._saved = min(self._saved + self._settings.budget, RESERVE)


class JudgingRetry(Retry):
    """Retries also after responses."""

    def on_response(self, exchange: Exchange) -> float | None:
        """Check the status."""
        return self._judge(exchange)


class PreparingAndJudgingRetry(PreparingRetry):
    """Both. (A compiled class has one base.)"""

    def on_response(self, exchange: Exchange) -> float | None:
        """As `JudgingRetry`."""
        return self._judge(exchange)


CLASSES: Final = {
    (False, False): Retry,
    (True, False): PreparingRetry,
    (False, True): JudgingRetry,
    (True, True): PreparingAndJudgingRetry,
}
"""Methods that a service does not need are not overridden, so that they cost nothing."""


class RetryFactory:
    """Builds the middleware of each service with retries."""

    kind = "retry"
    settings_type = ServiceRetry

    def build_middleware(self, settings: ServiceRetry, service: str) -> Retry:
        """Build the middleware of one service."""
        is_preparing, is_judging = settings.timeout_s or settings.budget, settings.statuses or settings.grpc_statuses
        return CLASSES[bool(is_preparing), bool(is_judging)](settings)
