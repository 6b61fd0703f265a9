"""Counts the middlewares that raised, by type, for all protocols of a worker."""

from maesh_core.model.metrics import MetricFamily


class MiddlewareFailures:
    """The number of failures of each middleware type."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<MiddlewareFailures {self._counts}>"

    def count(self, type_: type) -> bool:
        """Count a failure; return True for the first one of its type, which the caller should log."""
        name = f"{type_.__module__}.{type_.__qualname__}"
        self._counts[name] = self._counts.get(name, 0) + 1
        return self._counts[name] == 1

    def collect(self) -> MetricFamily:
        """Return the metric."""
        return MetricFamily(
            name="maesh_middleware_failures",
            type="counter",
            help="Calls of middlewares that raised.",
            labels=("middleware",),
            samples=[((name,), count) for name, count in sorted(self._counts.items())],
        )
