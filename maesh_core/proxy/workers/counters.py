"""Combines the counters of all workers of a node, including those that have ended.

Takes the last report of each worker; returns metric families. Counters and histograms of an ended worker stay in the
sum, so that no counter decreases when a worker is replaced; its gauges are removed. Pure values, no I/O.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from maesh_core.model.metrics import Histogram, MetricFamily

Labels: TypeAlias = tuple[str, ...]
SERVICE_LABEL = "service"


def add_families(families: Iterable[MetricFamily]) -> list[MetricFamily]:
    """Sum families of the same name, sample by sample; families that do not match the first one are left out."""
    firsts: dict[str, MetricFamily] = {}
    sums: dict[str, dict[Labels, float | Histogram]] = {}
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


def _add(one: float | Histogram, other: float | Histogram) -> float | Histogram:
    if isinstance(one, Histogram) and isinstance(other, Histogram):
        if tuple(one.bounds) != tuple(other.bounds) or len(one.counts) != len(other.counts):
            return one
        counts = tuple(map(sum, zip(one.counts, other.counts, strict=True)))
        return Histogram(one.bounds, counts, one.sum + other.sum)
    if isinstance(one, Histogram) or isinstance(other, Histogram):
        return one
    return one + other


class RetiredCounters:
    """The counters of workers that have ended."""

    __slots__ = ("families",)

    def __init__(self) -> None:
        self.families: Sequence[MetricFamily] = ()

    def __repr__(self) -> str:
        """Show the number of families."""
        return f"<RetiredCounters {sum(len(family.samples) for family in self.families)} samples>"

    def add(self, families: Iterable[MetricFamily], *, is_known: Callable[[str], bool]) -> None:
        """Add the counters of a worker that has ended, without those of services that no longer exist."""
        counting = [family for family in families if family.type != "gauge"]
        self.families = [_drop_unknown(family, is_known) for family in add_families([*self.families, *counting])]


def _drop_unknown(family: MetricFamily, is_known: Callable[[str], bool]) -> MetricFamily:
    if SERVICE_LABEL not in family.labels:
        return family
    at = family.labels.index(SERVICE_LABEL)
    samples = [sample for sample in family.samples if is_known(sample[0][at])]
    return MetricFamily(name=family.name, type=family.type, help=family.help, labels=family.labels, samples=samples)
