"""The proxy's half: sets the time-outs of a request. The proxy itself ends what is late."""

import math

from maesh_core.plugin import Exchange, Middleware
from maesh_timeout.settings import ServiceTimeout


class Timeout(Middleware):
    """The time-outs of one service or rule."""

    def __init__(self, settings: ServiceTimeout) -> None:
        self._request_s = _read(settings.request_s)
        self._attempt_s = _read(settings.attempt_s)

    def __repr__(self) -> str:
        return f"<Timeout request={self._request_s} attempt={self._attempt_s}>"

    def on_request(self, exchange: Exchange) -> None:
        """Set the time-outs."""
        exchange.timeout_s = self._request_s
        exchange.attempt_total_s = self._attempt_s


def _read(seconds: float | None) -> float:
    """Return the time-out for an exchange: 0 for none, infinity for any time."""
    return 0.0 if seconds is None else seconds or math.inf


class TimeoutFactory:
    """Builds the middleware of each service or rule with time-outs."""

    kind = "timeout"
    settings_type = ServiceTimeout

    def build_middleware(self, settings: ServiceTimeout, service: str) -> Timeout:
        """Build the middleware of one service or rule."""
        return Timeout(settings)
