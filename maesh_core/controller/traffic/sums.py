"""The sums of what many proxies have counted: since their start, and in the last minute.

Takes the answers of proxies one by one; returns counts by metric and label. Answers are untrusted: what is unknown,
invalid or above a limit does not count, and nothing raises. Does no I/O.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from maesh_core.controller.traffic.latency import BUCKETS, read_buckets, read_count
from maesh_core.controller.traffic.wanted_metrics import GAUGES, LABELS_BY_TYPE, OTHER, LabelCheck, Scope
from maesh_core.model.metrics import Histogram, MetricFamily
from maesh_core.model.traffic import ProxyTraffic

INTERVAL_LIMIT_S: Final = 300.0
"""Limit of the time between a proxy's two sets of counters, which is usually 60 to 70 s."""
UPTIME_LIMIT_S: Final = 10 * 365 * 86400.0
GROUP_LIMIT: Final = 2_000
"""Limit of different labels of one service and metric, such as its clients; further ones are counted as `other`."""
TOTAL_LIMIT: Final = 500_000
"""Limit of all sums, which take about 100 MB."""

Labels: TypeAlias = tuple[str, ...]
Sample: TypeAlias = float | Histogram
_FOLDED = frozenset({"reason", "client"})
"""Labels whose values are counted as `other` above a limit; for others, the sample does not count."""
_NONE: Final[Mapping[Labels, int]] = {}
_NO_BUCKETS: Final = (0,) * BUCKETS


class Counts:
    """Sums by metric, by the value of its first label, and by the values of its further labels."""

    __slots__ = ("_buckets", "_sums", "seconds", "size")

    def __init__(self) -> None:
        self.seconds = 0.0
        self.size = 0
        self._sums: dict[str, dict[str, dict[Labels, int]]] = {}
        self._buckets: dict[str, dict[str, list[int]]] = {}

    def __repr__(self) -> str:
        return f"<Counts {self.size} sums in {self.seconds:g} s>"

    def find(self, metric: str, first: str) -> Mapping[Labels, int]:
        """Return the sums of a metric with this first label."""
        return self._sums.get(metric, {}).get(first, _NONE)

    def count(self, metric: str, first: str, *rest: str) -> int:
        """Return one sum; 0 if nothing was counted."""
        return self.find(metric, first).get(rest, 0)

    def find_buckets(self, metric: str, first: str) -> Sequence[int]:
        """Return the buckets of a histogram with this label."""
        return self._buckets.get(metric, {}).get(first, _NO_BUCKETS)

    def list_firsts(self, metric: str) -> Sequence[str]:
        """List the first labels of a metric, sorted."""
        return sorted(self._sums.get(metric, {}))

    def add(self, metric: str, labels: Labels, number: int, *, is_folded: bool = False) -> None:
        """Add a number. Above the limits, it is added to `other` if `is_folded`, and is otherwise left out."""
        group = self._sums.setdefault(metric, {}).setdefault(labels[0], {})
        rest = labels[1:]
        if rest not in group:
            if len(group) >= GROUP_LIMIT or self.size >= TOTAL_LIMIT:
                if not is_folded:
                    return
                rest = (*rest[:-1], OTHER)
            self.size += rest not in group
        group[rest] = group.get(rest, 0) + number

    def add_buckets(self, metric: str, label: str, counts: Sequence[int]) -> None:
        """Add the buckets of a histogram."""
        sums = self._buckets.setdefault(metric, {}).setdefault(label, [0] * BUCKETS)
        for index, count in enumerate(counts):
            sums[index] += count


class TrafficSums:
    """The sums over all proxies that were added: `last` of about a minute, `total` since each proxy's start."""

    __slots__ = ("_check", "last", "total")

    def __init__(self, scope: Scope) -> None:
        self._check = LabelCheck(scope)
        self.last = Counts()
        self.total = Counts()

    def __repr__(self) -> str:
        return f"<TrafficSums last={self.last!r} total={self.total!r}>"

    def add(self, traffic: ProxyTraffic) -> None:
        """Add what one proxy counted."""
        has_before = 0 < traffic.interval_s <= INTERVAL_LIMIT_S
        if has_before:
            self.last.seconds = max(self.last.seconds, traffic.interval_s)
        if 0 < traffic.uptime_s <= UPTIME_LIMIT_S:
            self.total.seconds = max(self.total.seconds, traffic.uptime_s)
        earlier = {family.name: family for family in traffic.before}
        added: set[str] = set()
        for family in traffic.now:
            if family.name not in added:
                added.add(family.name)
                self._add_family(family, earlier.get(family.name), has_before=has_before)

    def _add_family(self, family: MetricFamily, before: MetricFamily | None, *, has_before: bool) -> None:
        wanted = LABELS_BY_TYPE[family.type].get(family.name)
        if wanted is None or any(label not in family.labels for label in wanted):
            return
        pick = self._build_pick(wanted, family.labels)
        is_like = before is not None and (before.type, before.labels) == (family.type, family.labels)
        old: dict[Labels, Sample] = dict(before.samples) if before is not None and is_like else {}
        is_counter = family.name not in GAUGES
        is_folded = wanted[-1] in _FOLDED
        for labels, value in family.samples:
            key = pick(labels)
            if key is None:
                continue
            if isinstance(value, Histogram):
                self._add_histogram(family, key, value, old.get(labels) if has_before else None, has_before=has_before)
                continue
            number = read_count(value)
            if number is None or family.type == "histogram":
                continue
            self.total.add(family.name, key, number, is_folded=is_folded)
            if has_before and is_counter:
                earlier = read_count(old.get(labels)) or 0
                grown = number - earlier if number >= earlier else number  # it counts from 0 again after a restart
                if grown:
                    self.last.add(family.name, key, grown, is_folded=is_folded)

    def _add_histogram(
        self, family: MetricFamily, key: Labels, value: Histogram, before: Sample | None, *, has_before: bool
    ) -> None:
        buckets = read_buckets(value)
        if buckets is None or family.type != "histogram":
            return
        self.total.add_buckets(family.name, key[0], buckets)
        if has_before:
            earlier = read_buckets(before) or _NO_BUCKETS
            grown = [now - then for now, then in zip(buckets, earlier, strict=True)]
            self.last.add_buckets(family.name, key[0], buckets if min(grown) < 0 else grown)

    def _build_pick(self, wanted: Labels, labels: Labels) -> Callable[[Labels], Labels | None]:
        """Build a function that picks the wanted labels from a sample's, or returns None if one is invalid."""
        checks = [(labels.index(label), self._check.find(label)) for label in wanted]
        length = len(labels)

        def pick(values: Labels) -> Labels | None:
            if len(values) != length:
                return None
            picked = []
            for index, check in checks:
                value = check(values[index])
                if value is None:
                    return None
                picked.append(value)
            return tuple(picked)

        return pick
