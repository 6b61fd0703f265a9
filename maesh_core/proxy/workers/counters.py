"""Adds up what the workers of a node count, so that no visible counter ever decreases.

Takes each worker's reports and its end; returns the sums. A *series* is a metric with its label values. The parent
keeps what a series has lost when its worker ended, dropped it, or counted it from 0 again. A series vanishes as a whole
when the last living worker that has it drops it; Prometheus treats one that appears again as reset. The numbers of a
client that vanishes are added to the client `other`, so sums over clients stay exact. Pure values, no I/O.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

from maesh_core.model.metrics import OTHER, Exemplar, Histogram, MetricFamily

ORPHAN_LIMIT: Final = 20_000
"""Series that are kept although no living worker has them, which take about 5 MB. At the limit, those that lost their
worker first vanish. Those of services that still exist do not count; only their clients do."""

Labels: TypeAlias = tuple[str, ...]
Value: TypeAlias = float | Histogram
Series: TypeAlias = dict[Labels, Value]
_SERVICE: Final = "service"
_CLIENT: Final = "client"
_NONE: Final[Mapping[Labels, Value]] = {}


class _Metric(NamedTuple):
    """What the reports of two workers must agree on to be added up; `help` is the same if the rest is."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    labels: Labels


def add_families(families: Iterable[MetricFamily]) -> list[MetricFamily]:
    """Sum families of the same name, sample by sample; families that do not match the first one are left out."""
    firsts: dict[str, MetricFamily] = {}
    sums: dict[str, Series] = {}
    for family in families:
        first = firsts.setdefault(family.name, family)
        if (first.type, first.labels) != (family.type, family.labels):
            continue
        samples = sums.setdefault(family.name, {})
        for labels, value in family.samples:
            samples[labels] = _add(samples[labels], value) if labels in samples else value
    return [
        MetricFamily(name=name, type=first.type, help=first.help, labels=first.labels, samples=list(sums[name].items()))
        for name, first in firsts.items()
    ]


def _add(one: Value, other: Value) -> Value:
    if isinstance(one, Histogram) and isinstance(other, Histogram):
        if tuple(one.bounds) != tuple(other.bounds) or len(one.counts) != len(other.counts):
            return one
        counts = tuple(map(sum, zip(one.counts, other.counts, strict=True)))
        return Histogram(one.bounds, counts, one.sum + other.sum, _choose_latest(one.exemplars, other.exemplars))
    if isinstance(one, Histogram) or isinstance(other, Histogram):
        return one
    return one + other


def _choose_latest(one: Mapping[int, Exemplar], other: Mapping[int, Exemplar]) -> Mapping[int, Exemplar]:
    """Choose the latest exemplar of each bucket."""
    if not one or not other:
        return one or other
    latest = dict(one)
    for bucket, exemplar in other.items():
        if bucket not in latest or exemplar.at > latest[bucket].at:
            latest[bucket] = exemplar
    return latest


class NodeCounters:
    """The counters of a node: the last report of each living worker, and what earlier reports had more."""

    __slots__ = ("_helps", "_is_known", "_kept", "_living", "_orphan_limit", "_services")

    def __init__(
        self, is_known_service: Callable[[str], bool] = lambda service: True, *, orphan_limit: int = ORPHAN_LIMIT
    ) -> None:
        self._is_known = is_known_service
        self._orphan_limit = orphan_limit
        self._living: dict[Hashable, dict[_Metric, Series]] = {}
        self._kept: dict[_Metric, Series] = {}
        """What is added to the reports; the series that were added last are at the end."""
        self._services: set[str] = set()
        """The services of kept series."""
        self._helps: dict[_Metric, str] = {}

    def __repr__(self) -> str:
        """Show the number of workers and of kept series."""
        return f"<NodeCounters of {len(self._living)} workers, {sum(map(len, self._kept.values()))} kept series>"

    def report(self, worker: Hashable, families: Iterable[MetricFamily]) -> None:
        """Replace what a living worker has counted."""
        before, now = self._living.get(worker, {}), self._read(families)
        self._living[worker] = now
        for metric, series in before.items():
            if metric.type != "gauge":
                self._follow(metric, series, now.get(metric, _NONE))
        self._forget_services()

    def retire(self, worker: Hashable) -> None:
        """Keep what a worker that has ended had counted."""
        for metric, series in self._living.pop(worker, {}).items():
            if metric.type != "gauge":
                for labels, value in series.items():
                    self._keep(metric, labels, value)
        self._forget_services()
        orphans = [each for each in self._list_orphans() if self._is_limited(*each)]
        for metric, labels in orphans[: max(0, len(orphans) - self._orphan_limit)]:
            self._vanish(metric, labels)

    def sum_up(self) -> list[MetricFamily]:
        """Return the sums; gauges are those of living workers."""
        sources = [*self._living.values(), self._kept]
        return add_families(
            MetricFamily(
                name=metric.name,
                type=metric.type,
                help=self._helps.get(metric, ""),
                labels=metric.labels,
                samples=list(series.items()),
            )
            for source in sources
            for metric, series in source.items()
        )

    def _read(self, families: Iterable[MetricFamily]) -> dict[_Metric, Series]:
        found: dict[_Metric, Series] = {}
        for family in families:
            metric = _Metric(family.name, family.type, family.labels)
            self._helps[metric] = family.help
            series = found.setdefault(metric, {})
            for labels, value in family.samples:
                series[labels] = _add(series[labels], value) if labels in series else value
        return found

    def _follow(self, metric: _Metric, before: Series, now: Mapping[Labels, Value]) -> None:
        """Keep what a living worker no longer reports, unless no other one has the series."""
        for labels in [labels for labels in before if labels not in now]:
            if self._is_living(metric, labels):
                self._keep(metric, labels, before[labels])
            else:
                self._vanish(metric, labels, before[labels])
        for labels in _list_decreased(before, now):
            self._keep(metric, labels, before[labels])

    def _keep(self, metric: _Metric, labels: Labels, value: Value) -> None:
        series = self._kept.setdefault(metric, {})
        former = series.pop(labels, None)
        series[labels] = value if former is None else _add(former, value)
        if _SERVICE in metric.labels:
            self._services.add(labels[metric.labels.index(_SERVICE)])

    def _vanish(self, metric: _Metric, labels: Labels, value: Value | None = None) -> None:
        """Forget a series that no living worker has; `value` is what the last one had counted."""
        kept = self._kept.get(metric, {}).pop(labels, None)
        if _CLIENT not in metric.labels or not self._is_wanted(metric, labels):
            return
        at = metric.labels.index(_CLIENT)
        if labels[at] != OTHER:
            others = (*labels[:at], OTHER, *labels[at + 1 :])
            for each in (kept, value):
                if each is not None:
                    self._keep(metric, others, each)

    def _forget_services(self) -> None:
        """Forget the kept series of services that no longer exist, once no living worker has them."""
        if all(self._is_existing(service) for service in self._services):
            return
        for metric, labels in [each for each in self._list_orphans() if not self._is_wanted(*each)]:
            del self._kept[metric][labels]
        self._services = {
            labels[metric.labels.index(_SERVICE)]
            for metric, series in self._kept.items()
            if _SERVICE in metric.labels
            for labels in series
        }

    def _list_orphans(self) -> Iterator[tuple[_Metric, Labels]]:
        """List the kept series that no living worker has."""
        for metric, series in self._kept.items():
            for labels in series:
                if not self._is_living(metric, labels):
                    yield metric, labels

    def _is_living(self, metric: _Metric, labels: Labels) -> bool:
        return any(labels in reported.get(metric, _NONE) for reported in self._living.values())

    def _is_existing(self, service: str) -> bool:
        return not service or self._is_known(service)

    def _is_wanted(self, metric: _Metric, labels: Labels) -> bool:
        """Whether the service of a series exists, if it has one."""
        return _SERVICE not in metric.labels or self._is_existing(labels[metric.labels.index(_SERVICE)])

    def _is_limited(self, metric: _Metric, labels: Labels) -> bool:
        """Whether a series counts for the limit of orphans: the number of its labels is not that of services."""
        if _CLIENT in metric.labels:
            return labels[metric.labels.index(_CLIENT)] != OTHER
        return _SERVICE not in metric.labels


def _list_decreased(before: Series, now: Mapping[Labels, Value]) -> list[Labels]:
    """List the series that a worker counts from 0 again."""
    return [labels for labels, value in before.items() if _is_below(now.get(labels, value), value)]


def _is_below(value: Value, former: Value) -> bool:
    """Whether less was counted; a report is compared each second, so that equal ones are recognized first."""
    if isinstance(value, Histogram) and isinstance(former, Histogram):
        return value.counts != former.counts and sum(value.counts) < sum(former.counts)
    return not isinstance(value, Histogram) and not isinstance(former, Histogram) and value < former
