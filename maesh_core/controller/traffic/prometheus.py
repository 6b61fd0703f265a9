"""Measures traffic by asking a Prometheus that scrapes the proxies, for meshes with more proxies than can be asked.

Defines the queries, and turns their results into the same sums as the answers of proxies; what Prometheus answers is
checked in the same way. Raises TrafficUnavailableError if a query fails that is not optional.
"""

import asyncio
import math
from collections.abc import Coroutine, Generator, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from maesh_core.controller.mesh_proxies.finder import Finder
from maesh_core.controller.traffic.gathering import Measurement
from maesh_core.controller.traffic.sums import Counts, TrafficSums
from maesh_core.controller.traffic.wanted_metrics import (
    COUNTERS,
    FINE_HISTOGRAMS,
    GAUGES,
    HISTOGRAMS,
    HTTP_CONNECTIONS,
    Scope,
)
from maesh_core.controller.turns import work_in_turns
from maesh_core.errors import TrafficUnavailableError
from maesh_core.model.messages import NodeReport
from maesh_core.model.metrics import Histogram, MetricFamily
from maesh_core.model.traffic import NodeTraffic, ProxyTraffic

WINDOW_S: Final = 120.0
"""The length of `last`: `increase` needs two samples in it, and proxies are commonly scraped every 15 or 30 s."""
CONCURRENCY: Final = 4
"""Limit of concurrent queries; Prometheus itself allows 20 by default."""
DEADLINE_S: Final = 20.0
"""Limit of the time for all queries."""
BUCKET_LABEL: Final = "le"
UPTIME_QUERY: Final = "max(time() - (process_start_time_seconds and on (instance, job) maesh_proxy_workers))"

Rows = Sequence[tuple[Mapping[str, str], float]]
"""The result of a query: labels and values."""


class Query(msgspec.Struct, frozen=True):
    """One query, and the metric whose values it returns; `is_recent` is for those of `last`.

    Without the result of one that `is_optional`, the report lacks some percentiles.
    """

    text: str
    metric: str
    labels: tuple[str, ...]
    is_recent: bool = False
    is_optional: bool = False


class PrometheusClient(Protocol):
    """Sends queries."""

    async def query(self, text: str) -> Rows:
        """Return the result of a query now; raises TrafficUnavailableError."""

    async def close(self) -> None:
        """Close its connections."""


def build_queries() -> tuple[Query, ...]:
    """Build all queries: of the values now, and for counters and histograms, of their growth."""
    queries = [Query(_render_sum(name, labels), name, labels) for name, labels in GAUGES.items()]
    for name, labels in COUNTERS.items():
        queries += _build_pair(name, f"{name}_total", labels)
    for name, labels in HISTOGRAMS.items():
        queries += _build_pair(name, f"{name}_bucket", (*labels, BUCKET_LABEL))
    return tuple(sorted(queries, key=lambda query: query.is_optional))


def _build_pair(metric: str, series: str, labels: tuple[str, ...]) -> list[Query]:
    """Build the queries of a metric's values, and of their growth.

    Those of the histograms of single servers and clients may have very many rows, so they leave out empty buckets.
    """
    is_optional = metric in FINE_HISTOGRAMS
    rest = " > 0" if is_optional else ""
    texts = (series, f"increase({series}[{WINDOW_S:.0f}s])")
    return [
        Query(_render_sum(text, labels) + rest, metric, labels, is_recent=text != series, is_optional=is_optional)
        for text in texts
    ]


def _render_sum(expression: str, labels: Sequence[str]) -> str:
    return f"sum by ({', '.join(labels)}) ({expression})"


class PrometheusSource:
    """One Prometheus."""

    __slots__ = ("_client", "_deadline_s", "_finder")

    def __init__(self, client: PrometheusClient, finder: Finder, *, deadline_s: float = DEADLINE_S) -> None:
        self._client = client
        self._finder = finder
        self._deadline_s = deadline_s

    def __repr__(self) -> str:
        return f"<PrometheusSource of {self._client!r}>"

    async def measure(self, scope: Scope) -> Measurement:
        """Ask for all metrics; raises TrafficUnavailableError."""
        queries = build_queries()
        found: dict[Query, MetricFamily] = {}
        waiting = iter(queries)

        async def ask_some() -> None:
            for query in waiting:
                found[query] = await work_in_turns(build_family(query, await self._ask(query)))

        try:
            async with asyncio.timeout(self._deadline_s):
                await _run_all(ask_some() for _ in range(CONCURRENCY))
                uptime_s = next((value for _, value in await self._client.query(UPTIME_QUERY)), 0.0)
        except TimeoutError as error:
            raise TrafficUnavailableError(
                f"Prometheus (--prometheus) did not answer all queries within {self._deadline_s:g} s"
            ) from error
        if not any(found[query].samples for query in queries if query.metric == HTTP_CONNECTIONS):
            raise TrafficUnavailableError("Prometheus (--prometheus) has no metrics of a proxy; it must scrape them")
        sums = TrafficSums(scope)
        sums.total = await _add_all(scope, found, uptime_s, is_recent=False)
        sums.last = await _add_all(scope, found, WINDOW_S, is_recent=True)
        known = await self._finder.find()
        nodes = sorted(map(_report_node, known.proxies), key=lambda node: node.name)
        return Measurement(sums, tuple(nodes), known.missing)

    async def _ask(self, query: Query) -> Rows:
        """Return the result of a query; one that is optional has none if it cannot be had."""
        try:
            return await self._client.query(query.text)
        except TrafficUnavailableError:
            if query.is_optional:
                return ()
            raise

    async def close(self) -> None:
        """Close the connections to Prometheus."""
        await self._client.close()


async def _add_all(scope: Scope, found: Mapping[Query, MetricFamily], seconds: float, *, is_recent: bool) -> Counts:
    families = tuple(family for query, family in found.items() if query.is_recent == is_recent)
    sums = TrafficSums(scope)
    await work_in_turns(sums.add(ProxyTraffic(interval_s=0.0, uptime_s=seconds, now=families), is_only=True))
    return sums.total


async def _run_all(jobs: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run jobs; if one raises, end the others and raise its error."""
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _report_node(report: NodeReport) -> NodeTraffic:
    return NodeTraffic(name=report.name, revision=report.revision, is_refused=report.refused)


def build_family(query: Query, rows: Rows) -> Generator[None, None, MetricFamily]:
    """Build the family that a result stands for; a result has counts as numbers with fractions."""
    if query.labels[-1] == BUCKET_LABEL:
        labels, samples = query.labels[:-1], (yield from _build_histograms(query.labels[:-1], rows))
        return MetricFamily(name=query.metric, type="histogram", help="", labels=labels, samples=samples)
    numbers = [(_pick(row, query.labels), round(value)) for row, value in rows if math.isfinite(value)]
    type_: Any = "gauge" if query.metric in GAUGES else "counter"
    yield
    return MetricFamily(name=query.metric, type=type_, help="", labels=query.labels, samples=numbers)


def _build_histograms(
    labels: tuple[str, ...], rows: Rows
) -> Generator[None, None, list[tuple[tuple[str, ...], Histogram]]]:
    """Build a histogram from the rows of each label: Prometheus' buckets are cumulative, and have bounds as texts."""
    grouped: dict[tuple[str, ...], dict[float, float]] = {}
    for row, value in rows:
        bound = _parse_bound(row.get(BUCKET_LABEL, ""))
        if bound is not None and math.isfinite(value):
            grouped.setdefault(_pick(row, labels), {})[bound] = value
    yield
    return [(key, _build_histogram(buckets)) for key, buckets in grouped.items() if math.inf in buckets]


def _build_histogram(buckets: Mapping[float, float]) -> Histogram:
    bounds = sorted(buckets)
    below, counts = 0, []
    for bound in bounds:
        count = max(round(buckets[bound]), below)
        counts.append(count - below)
        below = count
    return Histogram(bounds[:-1], counts, 0.0)


def _parse_bound(text: str) -> float | None:
    try:
        bound = float(text)
    except ValueError:
        return None
    return None if math.isnan(bound) else bound


def _pick(row: Mapping[str, str], labels: Sequence[str]) -> tuple[str, ...]:
    return tuple(row.get(label, "") for label in labels)
