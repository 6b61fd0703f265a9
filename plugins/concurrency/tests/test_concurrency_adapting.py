"""The adaptive limit, computed from latencies with a fake clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from maesh_concurrency.adapting import FIRST_LIMIT, PERIOD_S, PERIODS, WINDOW_LIMIT_S, WINDOW_SAMPLES, AdaptiveLimit

from maesh_testing import FakeNode


class World:
    """A limit and a fake clock, which each window advances."""

    def __init__(self, smallest=1, largest=1000, workers=1):
        self.node = FakeNode(workers)
        self.limit = AdaptiveLimit(self.node, "a", smallest=smallest, largest=largest)
        self.now = 0.0

    def pass_window(self, latency_s, running=None, samples=WINDOW_SAMPLES, seconds=1.0):
        """Add the samples of a window with `running` requests at once, by default as many as the limit allows."""
        running = self.limit.read() if running is None else running
        for number in range(samples):
            self.limit.add_sample(latency_s, running, self.now + seconds * number / (samples - 1))
        self.now += seconds


def test_the_limit_begins_low_but_within_its_bounds():
    limits = [World(smallest=smallest, largest=largest) for smallest, largest in ((1, 1000), (50, 99), (1, 7))]
    assert [world.limit.read() for world in limits] == [FIRST_LIMIT, 50, 7]


def test_it_grows_while_the_latency_stays_normal_and_all_of_it_is_used():
    world = World()
    for _ in range(30):
        world.pass_window(0.01)
    assert world.limit.read() > 200
    for _ in range(100):
        world.pass_window(0.019)
    assert world.limit.read() == 1000


def test_it_does_not_grow_while_little_of_it_is_used():
    world = World()
    for _ in range(30):
        world.pass_window(0.01, running=9)
    assert world.limit.read() == FIRST_LIMIT


def test_it_shrinks_in_proportion_when_the_latency_is_above_twice_the_normal_one():
    world = World()
    for _ in range(30):
        world.pass_window(0.01)
    before = world.limit.read()
    world.pass_window(0.025)
    assert world.limit.read() == pytest.approx(before * 0.8, abs=2)
    before = world.limit.read()
    world.pass_window(10.0)
    assert world.limit.read() == pytest.approx(before / 2, abs=1)


def test_a_window_with_few_samples_changes_nothing():
    world = World()
    world.pass_window(0.01)
    before = world.limit.read()
    for _ in range(5):
        world.pass_window(9.0, samples=3)
        world.now += WINDOW_LIMIT_S + 1
    assert world.limit.read() == before


def test_the_normal_latency_is_forgotten_after_a_while():
    world = World()
    world.pass_window(0.01)
    for _ in range(int(PERIOD_S * PERIODS) + 40):
        world.pass_window(0.1)
    assert world.limit.read() > FIRST_LIMIT


def test_workers_share_the_limit_and_each_makes_a_part_of_the_change():
    world = World(workers=4)
    others = [AdaptiveLimit(world.node.get_worker(slot), "a", smallest=1, largest=1000) for slot in range(1, 4)]
    world.pass_window(0.01)
    assert {each.read() for each in (world.limit, *others)} == {21}


def test_a_server_that_slows_down_under_load_gets_about_what_it_can_do():
    world = World()
    for _ in range(300):
        running = world.limit.read()
        world.pass_window(0.01 * max(1.0, running / 60))  # it does 60 at once; more of them wait for each other
    assert 60 <= world.limit.read() <= 150


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 10**6)), max_size=40),
    st.integers(1, 500),
    st.integers(0, 500),
    st.integers(1, 4),
)
def test_it_never_leaves_its_bounds(windows, smallest, more, workers):
    world = World(smallest=smallest, largest=smallest + more, workers=workers)
    for latency_s, running in windows:
        world.pass_window(latency_s, running=running)
        assert smallest <= world.limit.read() <= smallest + more
