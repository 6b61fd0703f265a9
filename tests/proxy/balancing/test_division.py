"""Traffic divided by weight: exact shares, close shares at any moment, and no share for a retry."""

from collections import Counter
from math import gcd

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.proxy.balancing.balancer import build_balancer
from maesh_core.proxy.balancing.division import DividedPart, Division


class Server:
    aside = None
    under_way = 0

    def __init__(self, part, number):
        self.part, self.number = part, number

    def __repr__(self):
        return f"{self.part}{self.number}"


def build(weights, *, servers=2, former=None):
    parts = []
    for number, weight in enumerate(weights):
        own = [Server(number, each) for each in range(servers)]
        parts.append((DividedPart(str(number), build_balancer([(each, 1) for each in own]), own), weight))
    return Division(parts, former=former)


def pick_parts(division, count):
    return [division.pick().part for _ in range(count)]


WEIGHTS = st.lists(st.integers(1, 40), min_size=1, max_size=6)


@given(WEIGHTS, st.integers(0, 200))
def test_any_window_as_long_as_the_weights_add_up_to_is_exact(weights, start):
    divisor = gcd(*weights)
    length = sum(weights) // divisor
    division = build(weights)
    pick_parts(division, start)
    counts = Counter(pick_parts(division, length))
    assert [counts[number] for number in range(len(weights))] == [weight // divisor for weight in weights]


@given(WEIGHTS, st.integers(0, 100), st.integers(1, 150))
def test_any_other_window_is_within_two(weights, start, length):
    division = build(weights)
    pick_parts(division, start)
    counts = Counter(pick_parts(division, length))
    for number, weight in enumerate(weights):
        assert abs(counts[number] - length * weight / sum(weights)) < 2


def test_servers_of_a_part_take_turns():
    division = build([1, 1])
    assert [repr(division.pick()) for _ in range(4)] == ["00", "10", "01", "11"]


def test_another_attempt_stays_in_its_part_and_is_no_pick():
    division = build([2, 1])
    for _ in range(20):
        expected = build([2, 1], former=division)
        first = division.pick()
        again = division.pick([first])
        assert (again.part, again.number) == (first.part, 1 - first.number)
        assert pick_parts(division, 5) == pick_parts(expected, 6)[1:]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_rotation_goes_on_over_a_change_of_servers(count):
    division = build([3, 2])
    pick_parts(division, count)
    after = build([3, 2], servers=1, former=division)
    assert pick_parts(after, 5) == pick_parts(division, 5)


@given(WEIGHTS, st.integers(0, 60))
def test_a_part_whose_weight_becomes_0_gets_nothing_from_then_on(weights, count):
    before = build([7, *weights])
    pick_parts(before, count)
    assert 0 not in pick_parts(build([0, *weights], former=before), 50)


def test_parts_of_weight_0_alone_give_no_server():
    assert build([0, 0]).pick() is None


def test_without_parts_no_server_is_picked():
    assert Division(()).pick() is None
    assert build([1], servers=0).pick() is None
