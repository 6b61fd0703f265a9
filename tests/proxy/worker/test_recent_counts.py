"""Counts of the last periods, from every worker of a node."""

import asyncio
from collections import Counter
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.proxy.network.clock import Clock
from maesh_core.proxy.worker.memory import WorkerMemory
from maesh_core.proxy.worker.node_view import NodeView
from maesh_core.settings import ProxySettings

BOUNDS = (0, 10, 20)


class SharedMemory(WorkerMemory):
    """Memory that workers of one node see, without a parent."""

    def __init__(self, regions, slot):
        super().__init__(slot=slot)
        self.regions = regions

    def share(self, name, size):
        return self.regions.setdefault((name, size), super().share(name, size))


class Loop:
    def time(self):
        return 0.0


def open_counts(workers=1, name="a", regions=None):
    regions = {} if regions is None else regions
    nodes = [
        NodeView(
            ProxySettings(workers=workers),
            Clock(cast("asyncio.AbstractEventLoop", Loop())),
            SharedMemory(regions, slot),
        )
        for slot in range(workers)
    ]
    return [node.count_recent(name, bounds=BOUNDS, periods=3, period_s=2.0) for node in nodes]


def test_values_are_distinguished_by_bounds():
    (counts,) = open_counts()
    for value in (-1, 0, 9.9, 10, 19, 20, 1000):
        counts.add(value, 100.0)
    found = counts.read(100.0)
    assert [found.count(0, 10), found.count(10, 20), found.count(0, 20), found.count(20, 0)] == [2, 2, 4, 0]
    assert "7 values" in repr(found)


def test_periods_that_are_over_too_long_or_began_too_early_do_not_count():
    (counts,) = open_counts()
    for number in range(5):
        counts.add(5, 100.0 + 2 * number, 10**number)
    assert counts.read(109.9).count(0, 10) == 11100
    assert counts.read(111.9).count(0, 10) == 11000
    assert counts.read(109.9, since=106.0).count(0, 10) == 11000
    assert counts.read(109.9, since=106.1).count(0, 10) == 10000
    assert counts.read(200.0).count(0, 10) == 0


def test_a_row_that_is_used_again_begins_at_nothing():
    (counts,) = open_counts()
    counts.add(5, 100.0, 7)
    counts.add(5, 106.0)
    assert counts.read(106.0).count(0, 10) == 1


def test_workers_are_added_up_and_a_successor_goes_on():
    regions = {}
    first, second = open_counts(workers=2, regions=regions)
    first.add(5, 100.0)
    second.add(5, 100.0, 2)
    assert first.read(100.0).count(0, 10) == second.read(100.0).count(0, 10) == 3
    successor, _ = open_counts(workers=2, regions=regions)
    successor.add(5, 100.5)
    assert second.read(100.5).count(0, 10) == 4
    assert open_counts(name="b", regions=regions)[0].read(100.0).count(0, 10) == 0


@pytest.mark.parametrize(("percent", "bound"), [(0, 0), (50, 0), (51, 10), (75, 10), (76, 20), (100, 20)])
def test_a_quantile_is_the_bound_below_it(percent, bound):
    (counts,) = open_counts()
    for value in (5, 6, 15, 25):
        counts.add(value, 100.0)
    assert counts.read(100.0).find_quantile(percent) == bound
    assert counts.read(300.0).find_quantile(percent) == 0


@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from([1, 11, 21]), st.floats(0, 3)), max_size=40))
def test_what_is_read_is_what_a_list_of_all_would_say(steps):
    workers, now, seen = open_counts(workers=2), 100.0, []
    for worker, value, pause_s in steps:
        now += pause_s
        workers[worker].add(value, now)
        seen.append((now // 2.0, value))
    wanted = Counter(value for number, value in seen if number > now // 2.0 - 3)
    found = workers[0].read(now)
    assert [found.count(0, 10), found.count(10, 20)] == [wanted[1], wanted[11]]
    assert found.count(20, 10**9) == 0
