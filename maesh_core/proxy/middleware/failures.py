"""Counts the middlewares that raised, by type, for all protocols of a worker, and logs the first failure of each."""

import logging
from typing import Any

from maesh_core.model.metrics import MetricFamily

_logger = logging.getLogger(__name__)


class MiddlewareFailures:
    """The number of failures of each middleware type."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<MiddlewareFailures {self._counts}>"

    def note(self, call: Any, error: BaseException, outcome: str) -> None:
        """Count a failure of a middleware, or of one of its methods; `outcome` says what follows from it."""
        type_ = type(getattr(call, "__self__", call))
        name = f"{type_.__module__}.{type_.__qualname__}"
        self._counts[name] = self._counts.get(name, 0) + 1
        if self._counts[name] == 1:
            _logger.error("middleware %s failed; %s", type_.__qualname__, outcome, exc_info=error)

    def collect(self) -> MetricFamily:
        """Return the metric."""
        return MetricFamily(
            name="maesh_middleware_failures",
            type="counter",
            help="Calls of middlewares that raised.",
            labels=("middleware",),
            samples=[((name,), count) for name, count in sorted(self._counts.items())],
        )
