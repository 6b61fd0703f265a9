"""Percentiles within buckets, and histograms of untrusted proxies."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.controller.traffic.latency import (
    BOUNDS_S,
    BUCKETS,
    COUNT_LIMIT,
    build_latency,
    find_percentile,
    read_buckets,
    read_count,
)
from maesh_core.model.metrics import Histogram
from maesh_core.model.traffic import Latency

COUNTS = st.lists(st.integers(0, 10**6), min_size=BUCKETS, max_size=BUCKETS)


def fill(**counts: int) -> list[int]:
    """Build buckets from `b3=7`: 7 durations in the bucket with index 3."""
    buckets = [0] * BUCKETS
    for name, count in counts.items():
        buckets[int(name[1:])] = count
    return buckets


def test_durations_are_spread_evenly_over_their_bucket() -> None:
    assert find_percentile(fill(b7=10), 0.5) == pytest.approx(0.075)
    assert find_percentile(fill(b0=10), 1.0) == BOUNDS_S[0]
    assert find_percentile(fill(b0=50, b7=50), 0.95) == pytest.approx(0.05 + 0.05 * 0.9)


def test_a_percentile_of_longer_durations_is_the_last_bound() -> None:
    assert find_percentile(fill(b11=1), 0.5) == BOUNDS_S[-1]


def test_without_durations_there_are_no_percentiles() -> None:
    assert build_latency([0] * BUCKETS) == Latency()


@given(COUNTS, st.lists(st.floats(0, 1), min_size=2, max_size=5))
def test_percentiles_never_decrease_with_their_share(buckets: list[int], shares: list[float]) -> None:
    if any(buckets):
        found = [find_percentile(buckets, share) for share in sorted(shares)]
        assert found == sorted(found)
        assert found[0] >= 0
        assert found[-1] <= BOUNDS_S[-1]


@given(st.lists(st.floats(0, 4.9), min_size=1, max_size=40), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_percentile_is_in_the_bucket_of_the_true_one(seconds: list[float], share: float) -> None:
    buckets = [0] * BUCKETS
    for each in seconds:
        buckets[next(index for index, bound in enumerate(BOUNDS_S) if each <= bound)] += 1
    true = sorted(seconds)[math.ceil(share * len(seconds)) - 1]
    index = next(index for index, bound in enumerate(BOUNDS_S) if true <= bound)
    low = BOUNDS_S[index - 1] if index else 0.0
    assert low <= find_percentile(buckets, share) <= BOUNDS_S[index] * (1 + 1e-9)


def test_buckets_of_another_version_are_counted_where_their_bounds_belong() -> None:
    assert read_buckets(Histogram((0.001, 0.002, 9.0), (1, 2, 4, 8), 1.0)) == fill(b1=1, b2=2, b11=12)


@pytest.mark.parametrize(
    "histogram",
    [
        Histogram((), (1,), 0.0),
        Histogram((1.0,), (1,), 0.0),
        Histogram((1.0, 1.0), (1, 1, 1), 0.0),
        Histogram((2.0, 1.0), (1, 1, 1), 0.0),
        Histogram((math.nan,), (1, 1), 0.0),
        Histogram((math.inf,), (1, 1), 0.0),
        Histogram((1.0,), (1, -1), 0.0),
        Histogram((1.0,), (1, COUNT_LIMIT + 1), 0.0),
        Histogram(tuple(map(float, range(100))), (0,) * 101, 0.0),
        7.0,
        None,
    ],
)
def test_what_is_not_a_histogram_is_not_read(histogram: object) -> None:
    assert read_buckets(histogram) is None


@pytest.mark.parametrize("value", [-1, math.nan, math.inf, 2.0**53 + 2, 10**400, None, "7"])
def test_what_is_not_a_count_is_not_read(value: object) -> None:
    assert read_count(value) is None


def test_counts_are_whole_numbers() -> None:
    assert [read_count(each) for each in (0, 7.0, COUNT_LIMIT)] == [0, 7, COUNT_LIMIT]
