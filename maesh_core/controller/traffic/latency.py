"""Percentiles of durations: takes the counts of a histogram's buckets, and returns interpolated percentiles.

All histograms are counted in the same buckets, `BOUNDS_S`. A histogram of a proxy with other buckets, such as one of
another version, is counted in those that contain its upper bounds, so no duration becomes shorter than it was. Pure
values.
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from math import isfinite
from typing import Final

from maesh_core.model.metrics import Histogram
from maesh_core.model.traffic import Latency

BOUNDS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.3, 1.2, 5.0)
"""Upper bounds of the buckets, in seconds: those of a proxy of this version."""
BUCKETS: Final = len(BOUNDS_S) + 1
"""The last bucket has the longer durations."""
BOUNDS_LIMIT: Final = 64
"""Limit of buckets in a histogram that is read."""
COUNT_LIMIT: Final = 2**53
"""Limit of a count that is read. JSON numbers are exact up to here (RFC 8259 section 6); no proxy counts this far."""


def read_count(value: object) -> int | None:
    """Read a count of a proxy; None if it is not a number from 0 to COUNT_LIMIT."""
    if not isinstance(value, int | float) or not 0 <= value <= COUNT_LIMIT:
        return None  # NaN fails the comparison too
    return int(value)


def read_buckets(value: object) -> list[int] | None:
    """Read a histogram into the buckets of BOUNDS_S; None if it is not one."""
    if not isinstance(value, Histogram):
        return None
    if len(value.counts) == BUCKETS and tuple(value.bounds) == BOUNDS_S:
        return list(value.counts) if min(value.counts) >= 0 and max(value.counts) <= COUNT_LIMIT else None
    if not _has_valid_bounds(value):
        return None
    buckets = [0] * BUCKETS
    for bound, given in zip((*value.bounds, None), value.counts, strict=True):
        count = read_count(given)
        if count is None:
            return None
        buckets[-1 if bound is None else bisect_left(BOUNDS_S, bound)] += count
    return buckets


def _has_valid_bounds(histogram: Histogram) -> bool:
    bounds = histogram.bounds
    if not 0 < len(bounds) <= BOUNDS_LIMIT or len(histogram.counts) != len(bounds) + 1:
        return False
    return all(map(isfinite, bounds)) and all(one < other for one, other in pairwise(bounds))


def build_latency(buckets: Sequence[int]) -> Latency:
    """Compute the percentiles of the durations in these buckets."""
    if not any(buckets):
        return Latency()
    return Latency(
        p50=find_percentile(buckets, 0.5), p95=find_percentile(buckets, 0.95), p99=find_percentile(buckets, 0.99)
    )


def find_percentile(buckets: Sequence[int], share: float) -> float:
    """Return the duration that this share of the durations does not exceed, as Prometheus' `histogram_quantile` does.

    Within a bucket, durations are assumed to be evenly distributed; in the last one, the result is its lower bound.
    """
    rank = share * sum(buckets)
    below = 0
    for index, count in enumerate(buckets[: len(BOUNDS_S)]):
        if count and below + count >= rank:
            low = BOUNDS_S[index - 1] if index else 0.0
            return low + (BOUNDS_S[index] - low) * (rank - below) / count
        below += count
    return BOUNDS_S[-1]
