"""The sums of what many proxies have counted: since their start, and in the last minute.

Takes the answers of proxies one by one; returns counts by metric and label. Answers are untrusted: what is unknown,
invalid or above a limit does not count, and nothing raises. Does no I/O.
"""

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from typing import Final, TypeAlias

from maesh_core.controller.traffic.latency import BOUNDS_S, BUCKETS, read_buckets, read_count
from maesh_core.controller.traffic.wanted_metrics import COUNTERS, GAUGES, HISTOGRAMS, LABELS_BY_TYPE, LabelCheck, Scope
from maesh_core.model.metrics import OTHER, Histogram, MetricFamily
from maesh_core.model.traffic import ProxyTraffic

INTERVAL_LIMIT_S: Final = 120.0
"""Limit of the time between a proxy's two sets of counters, which is usually 60 to 70 s."""
UPTIME_LIMIT_S: Final = 10 * 365 * 86400.0
GROUP_LIMIT: Final = 2_000
"""Limit of different labels of one service and metric, such as its clients; further ones are counted as `other`."""
GROUP_SHARE: Final = 1_000
"""One proxy may add this many of them: as many as a worker counts clients by default."""
FREE_LIMIT: Final = 200_000
"""Limit of the weight of sums whose labels a proxy can invent, clients and reasons; further ones count as `other`."""
FREE_SHARE: Final = 60_000
"""One proxy may add this weight of them: as much as 8,000 pairs of client and service have, of 8 workers by default."""
KNOWN_LIMIT: Final = 500_000
"""Limit of the weight of all other sums, whose labels are services, servers, destinations and codes."""
KNOWN_SHARE: Final = 300_000
"""One proxy may add this weight of them: so much has a proxy of 10,000 services with two busy servers each."""
WEIGHT_BYTES: Final = 400
"""Limit of the memory of one weight, in each of the two windows: so the sums of a window take up to 280 MB."""
_HEAVY_WEIGHT: Final = 3
"""The weight of a histogram, whose buckets take 900 bytes, and of a number with a reason of REASON_LIMIT characters."""

STEP: Final = 1_000
"""Samples that are added without a pause, which takes a few milliseconds."""

Labels: TypeAlias = tuple[str, ...]
Sample: TypeAlias = float | Histogram
CLIENT: Final = "client"
_FREE_METRICS = frozenset(
    name for name, labels in {**COUNTERS, **HISTOGRAMS}.items() if labels[-1] in ("reason", CLIENT)
)
"""Metrics with a label whose values are counted as `other` above a limit; for others, the sample does not count."""
_HEAVY_METRICS = frozenset({*HISTOGRAMS, *(name for name, labels in COUNTERS.items() if "reason" in labels)})
_NONE: Final[Mapping[Labels, int]] = {}
_NO_BUCKETS: Final = (0,) * BUCKETS


class Share:
    """What one proxy has added to the sums of one window: the weight of new labels, and their number in each group.

    With `is_whole`, only the limits of all proxies apply.
    """

    __slots__ = ("_free", "_groups", "_is_whole", "_known")

    def __init__(self, *, is_whole: bool = False) -> None:
        self._is_whole = is_whole
        self._free = 0
        self._known = 0
        self._groups: dict[tuple[str, str], int] = {}

    def __repr__(self) -> str:
        return f"<Share {self._known} known, {self._free} free>"

    def has_room(self, group: tuple[str, str], weight: int, *, is_free: bool) -> bool:
        """Whether the proxy may add new labels of this weight to a group: those of a metric and its first label."""
        if self._is_whole:
            return True
        is_within = self._free + weight <= FREE_SHARE if is_free else self._known + weight <= KNOWN_SHARE
        return is_within and self._groups.get(group, 0) < GROUP_SHARE

    def note(self, group: tuple[str, str], weight: int, *, is_free: bool) -> None:
        """Count new labels."""
        self._free += weight * is_free
        self._known += weight * (not is_free)
        self._groups[group] = self._groups.get(group, 0) + 1


class Counts:
    """Sums by metric, by the value of its first label, and by the values of its further labels.

    `free` and `known` are their weights.
    """

    __slots__ = ("_buckets", "_sums", "free", "known", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0
        self.free = 0
        self.known = 0
        self._sums: dict[str, dict[str, dict[Labels, int]]] = {}
        self._buckets: dict[str, dict[str, dict[Labels, list[int]]]] = {}

    def __repr__(self) -> str:
        return f"<Counts of weight {self.known + self.free} in {self.seconds:g} s>"

    def find(self, metric: str, first: str) -> Mapping[Labels, int]:
        """Return the sums of a metric with this first label."""
        return self._sums.get(metric, {}).get(first, _NONE)

    def count(self, metric: str, first: str, *rest: str) -> int:
        """Return one sum; 0 if nothing was counted."""
        return self.find(metric, first).get(rest, 0)

    def find_buckets(self, metric: str, first: str, *rest: str) -> Sequence[int]:
        """Return the buckets of a histogram with these labels."""
        return self._buckets.get(metric, {}).get(first, {}).get(rest, _NO_BUCKETS)

    def list_firsts(self, metric: str) -> Sequence[str]:
        """List the first labels of a metric, sorted."""
        return sorted(self._sums.get(metric, {}))

    def add(self, metric: str, labels: Labels, number: int, share: Share) -> bool:
        """Add a number; return False if it is left out."""
        group = self._sums.setdefault(metric, {}).setdefault(labels[0], {})
        rest = self._admit(metric, labels, group, share)
        if rest is None:
            return False
        group[rest] = group.get(rest, 0) + number
        return True

    def add_buckets(self, metric: str, labels: Labels, counts: Sequence[int], share: Share) -> bool:
        """Add the buckets of a histogram; return False if they are left out."""
        group = self._buckets.setdefault(metric, {}).setdefault(labels[0], {})
        rest = self._admit(metric, labels, group, share)
        if rest is None:
            return False
        sums = group.setdefault(rest, [0] * BUCKETS)
        for index, count in enumerate(counts):
            sums[index] += count
        return True

    def _admit(self, metric: str, labels: Labels, group: Collection[Labels], share: Share) -> Labels | None:
        """Return the labels by which to add within a group; None if there is no room for new ones.

        Above a limit, or a proxy's share of it, new labels are those of `other` if the metric has that: by class
        instead of code, so that there are at most nine.
        """
        rest = labels[1:]
        if rest in group:
            return rest
        name, is_free = (metric, labels[0]), metric in _FREE_METRICS
        weight = _HEAVY_WEIGHT if metric in _HEAVY_METRICS else 1
        has_room = self.free + weight <= FREE_LIMIT if is_free else self.known + weight <= KNOWN_LIMIT
        if has_room and len(group) < GROUP_LIMIT and share.has_room(name, weight, is_free=is_free):
            self.free += weight * is_free
            self.known += weight * (not is_free)
            share.note(name, weight, is_free=is_free)
            return rest
        return (*(f"{code[0]}xx" for code in rest[:-1]), OTHER) if is_free else None


class TrafficSums:
    """The sums over all proxies that were added: `last` of about a minute, `total` since each proxy's start."""

    __slots__ = ("_check", "last", "total")

    def __init__(self, scope: Scope) -> None:
        self._check = LabelCheck(scope)
        self.last = Counts()
        self.total = Counts()

    def __repr__(self) -> str:
        return f"<TrafficSums last={self.last!r} total={self.total!r}>"

    def add(self, traffic: ProxyTraffic, *, is_only: bool = False) -> Generator[None, None, int]:
        """Add what one proxy counted, and return how many values were left out.

        The work may pause between samples, and other proxies may be added meanwhile. With `is_only`, nothing else is
        added, so there are no shares.
        """
        has_before = 0 < traffic.interval_s <= INTERVAL_LIMIT_S
        if has_before:
            self.last.seconds = max(self.last.seconds, traffic.interval_s)
        if 0 < traffic.uptime_s <= UPTIME_LIMIT_S:
            self.total.seconds = max(self.total.seconds, traffic.uptime_s)
        earlier = {family.name: family for family in traffic.before} if has_before else {}
        addition = _Addition(self.total, self.last if has_before else None, self._check, is_only=is_only)
        added: set[str] = set()
        for family in traffic.now:
            if family.name not in added:
                added.add(family.name)
                yield from addition.add_family(family, earlier.get(family.name))
        return addition.left_out


class _Addition:
    """Adds the families of one proxy. `last` is None if they cannot be compared with earlier ones."""

    __slots__ = ("_check", "_last", "_last_share", "_total", "_total_share", "left_out")

    def __init__(self, total: Counts, last: Counts | None, check: LabelCheck, *, is_only: bool) -> None:
        self._total = total
        self._last = last
        self._check = check
        self._total_share = Share(is_whole=is_only)
        self._last_share = Share(is_whole=is_only)
        self.left_out = 0

    def __repr__(self) -> str:
        return f"<_Addition {self._total_share!r}>"

    def add_family(self, family: MetricFamily, before: MetricFamily | None) -> Generator[None, None, None]:
        """Add a family; `before` is the same one some time ago."""
        wanted = LABELS_BY_TYPE[family.type].get(family.name)
        if wanted is None:
            return
        if any(label not in family.labels for label in wanted):
            self.left_out += len(family.samples)
            return
        pick = self._build_pick(wanted, family.labels)
        is_like = before is not None and (before.type, before.labels) == (family.type, family.labels)
        old = (yield from _index_samples(before.samples)) if before is not None and is_like else {}
        if CLIENT in family.labels:
            yield from _follow_folded(family, old)
        last = None if family.name in GAUGES else self._last
        add = self._add_buckets if family.type == "histogram" else self._add_number
        for number, (labels, value) in enumerate(family.samples):
            if number % STEP == STEP - 1:
                yield
            key = pick(labels)
            if key is None or not add(family.name, key, value, old.get(labels), last=last):
                self.left_out += 1

    def _add_number(self, name: str, key: Labels, value: Sample, before: Sample | None, *, last: Counts | None) -> bool:
        number = read_count(value)
        if number is None:
            return False
        if last is not None:
            earlier = read_count(before) or 0
            grown = number - earlier
            if grown < 0:  # it counts from 0 again after a restart
                grown = 0 if CLIENT in COUNTERS.get(name, ()) else number
            if grown:
                last.add(name, key, grown, self._last_share)
        return self._total.add(name, key, number, self._total_share)

    def _add_buckets(
        self, name: str, key: Labels, value: Sample, before: Sample | None, *, last: Counts | None
    ) -> bool:
        buckets = read_buckets(value)
        if buckets is None:
            return False
        if last is not None:
            earlier = read_buckets(before) or _NO_BUCKETS
            grown = [now - then for now, then in zip(buckets, earlier, strict=True)]
            if min(grown) < 0:  # it counts from 0 again after a restart
                grown = [0] * BUCKETS if CLIENT in HISTOGRAMS[name] else buckets
            if any(grown):
                last.add_buckets(name, key, grown, self._last_share)
        return self._total.add_buckets(name, key, buckets, self._total_share)

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


def _index_samples(samples: Sequence[tuple[Labels, Sample]]) -> Generator[None, None, dict[Labels, Sample]]:
    indexed: dict[Labels, Sample] = {}
    for start in range(0, len(samples), STEP):
        indexed.update(samples[start : start + STEP])
        yield
    return indexed


def _follow_folded(family: MetricFamily, old: dict[Labels, Sample]) -> Generator[None, None, None]:
    """Count earlier what a proxy has since added to the client `other`, so that it does not seem to be new.

    A proxy does this with the clients that it has not seen for longest, at its limit of clients.
    """
    now, index = (yield from _index_samples(family.samples)), family.labels.index(CLIENT)
    for number, labels in enumerate(list(old)):
        if number % STEP == STEP - 1:
            yield
        if len(labels) != len(family.labels) or labels[index] == OTHER:
            continue
        other = (*labels[:index], OTHER, *labels[index + 1 :])
        fold = _fold_buckets if family.type == "histogram" else _fold_number
        folded = fold(old[labels], now.get(labels), old.get(other))
        if folded is not None:
            old[labels], old[other] = folded


def _fold_number(before: Sample, now: Sample | None, others: Sample | None) -> tuple[Sample, Sample] | None:
    """Return what a client and the others had counted, as if the client had been counted as now; None if it has grown.

    `now` and `others` are None for what was not counted.
    """
    left = read_count(now) or 0
    folded = (read_count(before) or 0) - left
    return (left, (read_count(others) or 0) + folded) if folded > 0 else None


def _fold_buckets(before: Sample, now: Sample | None, others: Sample | None) -> tuple[Sample, Sample] | None:
    """Do the same for histograms."""
    left = read_buckets(now) or _NO_BUCKETS
    folded = [then - rest for then, rest in zip(read_buckets(before) or _NO_BUCKETS, left, strict=True)]
    if min(folded) < 0 or not any(folded):
        return None
    sums = [one + other for one, other in zip(folded, read_buckets(others) or _NO_BUCKETS, strict=True)]
    return Histogram(BOUNDS_S, left, 0.0), Histogram(BOUNDS_S, sums, 0.0)
