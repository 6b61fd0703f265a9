"""Counters become the text that Prometheus scrapes.

Takes what gives metric families, read at each scrape. prometheus_client is imported at the first scrape: a proxy that
nobody scrapes does without its 4 MB. Nothing here runs while a request passes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from maesh_core.model.metrics import Histogram, MetricFamily
from maesh_core.proxy.configuration import NodeConfiguration
from maesh_core.proxy.entrypoints import Entrypoints
from maesh_core.proxy.poller import Poller
from maesh_core.proxy.workers.pool import WorkerPool

Source = Callable[[], Sequence[MetricFamily]]


class MetricsPage:
    """Renders every family of its sources, and the figures of this process."""

    __slots__ = ("_render", "_sources")

    def __init__(self, sources: Iterable[Source]) -> None:
        self._sources = tuple(sources)
        self._render: Callable[[], bytes] | None = None

    def __repr__(self) -> str:
        """Show whether it was scraped."""
        return f"<MetricsPage of {len(self._sources)} sources{'' if self._render is None else ', scraped'}>"

    def render(self) -> tuple[bytes, str]:
        """Give the page and its content type."""
        if self._render is None:
            self._render = _build_render(self._sources)
        return self._render(), "text/plain; version=0.0.4; charset=utf-8"


class _Collector:
    """What a prometheus_client registry asks at each scrape."""

    __slots__ = ("_sources",)

    def __init__(self, sources: tuple[Source, ...]) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Any]:
        """Read every source; families of one name that several sources give become one."""
        families: dict[str, list[MetricFamily]] = {}
        for source in self._sources:
            for family in source():
                families.setdefault(family.name, []).append(family)
        for name in sorted(families):
            yield _convert_families(families[name])


def _build_render(sources: tuple[Source, ...]) -> Callable[[], bytes]:
    from prometheus_client import CollectorRegistry, ProcessCollector
    from prometheus_client.exposition import generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(sources))
    ProcessCollector(registry=registry)
    return lambda: generate_latest(registry)


def _convert_families(families: Sequence[MetricFamily]) -> Any:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
    from prometheus_client.utils import floatToGoString

    first = families[0]
    samples = [sample for family in families for sample in family.samples]
    if first.type == "histogram":
        histogram = HistogramMetricFamily(first.name, first.help, labels=first.labels)
        for labels, value in samples:
            if isinstance(value, Histogram):
                bounds = [*map(floatToGoString, value.bounds), "+Inf"]
                histogram.add_metric(labels, list(zip(bounds, accumulate(value.counts), strict=True)), value.sum)
        return histogram
    plain = CounterMetricFamily if first.type == "counter" else GaugeMetricFamily
    family = plain(first.name, first.help, labels=first.labels)
    for labels, value in samples:
        if not isinstance(value, Histogram):
            family.add_metric(labels, value)
    return family


def collect_node_metrics(
    configuration: NodeConfiguration, poller: Poller, entrypoints: Entrypoints, pool: WorkerPool
) -> Sequence[MetricFamily]:
    """Read the figures of the configuration, the pulling, the entrypoints and the workers."""
    return [
        _build_family("gauge", "info", "The revision in force.", {(configuration.revision or "",): 1}, "revision"),
        _build_family("counter", "reloads_total", "Configurations put in force.", {(): configuration.applied}),
        _build_family("counter", "rejected_total", "Configurations refused whole.", {(): configuration.rejected}),
        _build_family(
            "gauge", "last_reload_timestamp_seconds", "When one was put in force.", {(): configuration.applied_at_s}
        ),
        _build_family("gauge", "refused_routers", "Routers not carried.", {(): configuration.refused_count}),
        _build_family("counter", "pulls_total", "Requests to the controller.", {(): poller.pulls}),
        _build_family("counter", "pull_failures_total", "Pulls that brought no good answer.", {(): poller.failures}),
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
            help="Workers that carry traffic.",
            samples=(((), len(pool.joined)),),
        ),
        MetricFamily(
            name="maesh_proxy_worker_restarts",
            type="counter",
            help="Workers that ended by themselves and were replaced.",
            samples=(((), pool.restarts),),
        ),
    ]


def _build_family(
    type_: Any, name: str, text: str, samples: Mapping[tuple[str, ...], float], *labels: str
) -> MetricFamily:
    return MetricFamily(
        name=f"maesh_proxy_configuration_{name}", type=type_, help=text, labels=labels, samples=tuple(samples.items())
    )
