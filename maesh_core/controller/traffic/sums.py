"""The sums of what many proxies have counted: since their start, and in the last minute.

Takes the answers of proxies one by one; returns counts by metric and label. Answers are untrusted: what is unknown,
invalid or above a limit does not count, and nothing raises. Does no I/O.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Final, TypeAlias

from maesh_core.controller.traffic.latency import BUCKETS, read_buckets, read_count
from maesh_core.controller.traffic.wanted_metrics import COUNTERS, GAUGES, LABELS_BY_TYPE, OTHER, LabelCheck, Scope
from maesh_core.model.metrics import Histogram, MetricFamily
from maesh_core.model.traffic import ProxyTraffic

INTERVAL_LIMIT_S: Final = 300.0
"""Limit of the time between a proxy's two sets of counters, which is usually 60 to 70 s."""
UPTIME_LIMIT_S: Final = 10 * 365 * 86400.0
GROUP_LIMIT: Final = 2_000
"""Limit of different labels of one service and metric, such as its clients; further ones are counted as `other`."""
TOTAL_LIMIT: Final = 500_000
"""Limit of all sums, which take about 100 MB."""

STEP: Final = 1_000
"""Samples that are added without a pause, which takes a few milliseconds."""

Labels: TypeAlias = tuple[str, ...]
Sample: TypeAlias = float | Histogram
CLIENT: Final = "client"
_FOLDED = frozenset({"reason", CLIENT})
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

    def add(self, metric: str, labels: Labels, number: int) -> None:
        """Add a number. Above the limits, it is added to `other` if the metric has that, and is otherwise left out."""
        group = self._sums.setdefault(metric, {}).setdefault(labels[0], {})
        rest = labels[1:]
        if rest not in group:
            if len(group) >= GROUP_LIMIT or self.size >= TOTAL_LIMIT:
                if COUNTERS.get(metric, labels)[-1] not in _FOLDED:
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

    def add(self, traffic: ProxyTraffic) -> Generator[None, None, None]:
        """Add what one proxy counted; the work may pause between samples, and others may be added meanwhile."""
        has_before = 0 < traffic.interval_s <= INTERVAL_LIMIT_S
        if has_before:
            self.last.seconds = max(self.last.seconds, traffic.interval_s)
        if 0 < traffic.uptime_s <= UPTIME_LIMIT_S:
            self.total.seconds = max(self.total.seconds, traffic.uptime_s)
        earlier = {family.name: family for family in traffic.before} if has_before else {}
        added: set[str] = set()
        for family in traffic.now:
            if family.name not in added:
                added.add(family.name)
                yield from self._add_family(family, earlier.get(family.name), has_before=has_before)

    def _add_family(
        self, family: MetricFamily, before: MetricFamily | None, *, has_before: bool
    ) -> Generator[None, None, None]:
        wanted = LABELS_BY_TYPE[family.type].get(family.name)
        if wanted is None or any(label not in family.labels for label in wanted):
            return
        pick = self._build_pick(wanted, family.labels)
        is_like = before is not None and (before.type, before.labels) == (family.type, family.labels)
        old: dict[Labels, Sample] = dict(before.samples) if before is not None and is_like else {}
        if CLIENT in family.labels:
            old = _follow_folded(family, old)
        last = self.last if has_before and family.name not in GAUGES else None
        add = self._add_buckets if family.type == "histogram" else self._add_number
        for number, (labels, value) in enumerate(family.samples):
            if number % STEP == STEP - 1:
                yield
            key = pick(labels)
            if key is not None:
                add(family.name, key, value, old.get(labels), last=last)

    def _add_number(self, name: str, key: Labels, value: Sample, before: Sample | None, *, last: Counts | None) -> None:
        number = read_count(value)
        if number is None:
            return
        self.total.add(name, key, number)
        if last is not None:
            earlier = read_count(before) or 0
            grown = number - earlier
            if grown < 0:  # it counts from 0 again after a restart
                grown = 0 if CLIENT in COUNTERS.get(name, ()) else number
            if grown:
                last.add(name, key, grown)

    def _add_buckets(
        self, name: str, key: Labels, value: Sample, before: Sample | None, *, last: Counts | None
    ) -> None:
        buckets = read_buckets(value)
        if buckets is None:
            return
        self.total.add_buckets(name, key[0], buckets)
        if last is not None:
            earlier = read_buckets(before) or _NO_BUCKETS
            grown = [now - then for now, then in zip(buckets, earlier, strict=True)]
            last.add_buckets(name, key[0], buckets if min(grown) < 0 else grown)

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


def _follow_folded(family: MetricFamily, old: Mapping[Labels, Sample]) -> dict[Labels, Sample]:
    """Count earlier what a proxy has since added to the client `other`, so that it does not seem to be new.

    A proxy does this with the clients that it has not seen for longest, at its limit of clients.
    """
    now, index = dict(family.samples), family.labels.index(CLIENT)
    corrected = dict(old)
    for labels, value in old.items():
        if len(labels) != len(family.labels) or labels[index] == OTHER:
            continue
        left = read_count(now.get(labels)) or 0
        folded = (read_count(value) or 0) - left
        if folded > 0:
            other = (*labels[:index], OTHER, *labels[index + 1 :])
            corrected[labels] = left
            corrected[other] = (read_count(corrected.get(other)) or 0) + folded
    return corrected
