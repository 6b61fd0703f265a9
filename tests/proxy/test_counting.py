"""Durations by bucket and responses by status: as a list with bisect and as a dict would count them."""

from bisect import bisect_left
from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import given

from maesh_core.model.metrics import Exemplar, Histogram
from maesh_core.proxy.counting import (
    DURATION_BOUNDS_S,
    DurationCounts,
    StatusCounts,
    find_bucket,
    name_class,
    sum_counts,
)

SECONDS = st.floats(-1.0, 10.0) | st.sampled_from(DURATION_BOUNDS_S)
STATUSES = st.lists(st.integers(100, 999) | st.sampled_from([200, 404]))


def count(durations: list[float]) -> DurationCounts:
    counted = DurationCounts()
    for seconds in durations:
        counted.add(seconds)
    return counted


@given(st.lists(SECONDS))
def test_every_duration_is_in_the_first_bucket_that_it_does_not_exceed(durations: list[float]) -> None:
    wanted = [0] * (len(DURATION_BOUNDS_S) + 1)
    for seconds in durations:
        wanted[bisect_left(DURATION_BOUNDS_S, seconds)] += 1
        assert find_bucket(seconds) == bisect_left(DURATION_BOUNDS_S, seconds)
    counted = count(durations)
    assert counted.buckets == tuple(wanted)
    assert (counted.total, counted.seconds) == (len(durations), sum(durations))


@pytest.mark.parametrize(("bucket", "seconds"), list(enumerate([*DURATION_BOUNDS_S, 5.1])))
def test_each_bound_has_a_bucket_of_its_own(bucket: int, seconds: float) -> None:
    counted = count([seconds])
    assert [index for index, number in enumerate(counted.buckets) if number] == [bucket]
    assert counted.build_histogram() == Histogram(DURATION_BOUNDS_S, counted.buckets, seconds)


@given(st.lists(SECONDS), st.lists(SECONDS))
def test_merged_durations_are_those_of_both(some: list[float], others: list[float]) -> None:
    merged, both = count(some), count([*some, *others])
    merged.merge(count(others))
    assert merged.buckets == both.buckets
    assert merged.seconds == pytest.approx(both.seconds)


def test_exemplars_are_in_the_histogram() -> None:
    exemplar = Exemplar("a", 0.02, 1.0)
    assert count([0.02]).build_histogram({5: exemplar}).exemplars == {5: exemplar}


@given(STATUSES, STATUSES)
def test_statuses_are_counted_as_a_dict_would(some: list[int], others: list[int]) -> None:
    counted, other = StatusCounts(), StatusCounts()
    assert not counted.is_used
    for counts, statuses in ((counted, some), (other, others)):
        for status in statuses:
            counts.add(status)
    assert (counted.total, counted.is_used) == (len(some), bool(some))
    counted.merge(other)
    assert counted.by_status == Counter([*some, *others])
    counted.add(200)
    assert counted.by_status == Counter([*some, *others, 200])


def test_counts_of_one_class_add_up_and_are_sorted() -> None:
    counts = [((name_class(status),), 1) for status in (404, 200, 204)]
    assert sum_counts(counts) == [(("2xx",), 2), (("4xx",), 1)]
