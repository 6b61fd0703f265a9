"""Middlewares that raised, of all protocols of a worker: counted by type, and told once each by whoever asks."""

from maesh_core.model.metrics import MetricFamily


class MiddlewareFailures:
    """How often which type of middleware raised."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<MiddlewareFailures {self._counts}>"

    def count(self, type_: type) -> bool:
        """Count one; True the first time for its type, which is when it is worth a line in the log."""
        name = f"{type_.__module__}.{type_.__qualname__}"
        self._counts[name] = self._counts.get(name, 0) + 1
        return self._counts[name] == 1

    def collect(self) -> MetricFamily:
        """Read the counters."""
        return MetricFamily(
            name="maesh_middleware_failures",
            type="counter",
            help="Calls of middlewares that raised.",
            labels=("middleware",),
            samples=[((name,), count) for name, count in sorted(self._counts.items())],
        )
