"""Renders the metrics page for Prometheus.

Takes functions that return metric families, and calls them at each scrape. Nothing here runs per request.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from maesh_core.model.exposition import read_process_families, render_page
from maesh_core.model.metrics import MetricFamily
from maesh_core.proxy.node.configuration import NodeConfiguration
from maesh_core.proxy.node.entrypoints import Entrypoints
from maesh_core.proxy.node.poller import Poller
from maesh_core.proxy.workers.pool import WorkerPool

Source = Callable[[], Sequence[MetricFamily]]


class MetricsPage:
    """Renders the families of all sources, and the metrics of this process."""

    __slots__ = ("_sources",)

    def __init__(self, sources: Iterable[Source]) -> None:
        self._sources = (*sources, read_process_families)

    def __repr__(self) -> str:
        """Show the number of sources."""
        return f"<MetricsPage of {len(self._sources)} sources>"

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Read every source, and return the page and its content type, in the format that `accept` asks for."""
        return render_page(self._sources, accept)


def collect_node_metrics(
    configuration: NodeConfiguration, poller: Poller, entrypoints: Entrypoints, pool: WorkerPool
) -> Sequence[MetricFamily]:
    """Return the metrics of the configuration, the pulls, the entrypoints and the workers."""
    return [
        _build_family("gauge", "info", "The current revision.", {(configuration.revision or "",): 1}, "revision"),
        _build_family("counter", "reloads_total", "Configurations applied.", {(): configuration.applied}),
        _build_family("counter", "rejected_total", "Configurations rejected.", {(): configuration.rejected}),
        _build_family(
            "gauge",
            "last_reload_timestamp_seconds",
            "Time of the last applied configuration.",
            {(): configuration.applied_at_s},
        ),
        _build_family("gauge", "refused_routers", "Refused routers.", {(): configuration.refused_count}),
        _build_family("counter", "pulls_total", "Requests to the controller.", {(): poller.pulls}),
        _build_family("counter", "pull_failures_total", "Failed requests to the controller.", {(): poller.failures}),
        _build_family("gauge", "connected", "Whether the last pull succeeded.", {(): int(poller.is_connected)}),
        MetricFamily(
            name="maesh_proxy_entrypoints",
            type="gauge",
            help="Entrypoints by state.",
            labels=("state",),
            samples=((("open",), len(entrypoints.opened)), (("closed",), len(entrypoints.closed))),
        ),
        MetricFamily(
            name="maesh_proxy_workers",
            type="gauge",
            help="Workers that route traffic.",
            samples=(((), len(pool.joined)),),
        ),
        MetricFamily(
            name="maesh_proxy_worker_restarts",
            type="counter",
            help="Workers that ended unexpectedly and were replaced.",
            samples=(((), pool.restarts),),
        ),
    ]


def _build_family(
    type_: Any, name: str, text: str, samples: Mapping[tuple[str, ...], float], *labels: str
) -> MetricFamily:
    return MetricFamily(
        name=f"maesh_proxy_configuration_{name}", type=type_, help=text, labels=labels, samples=tuple(samples.items())
    )
