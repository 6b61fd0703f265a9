from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.process.backoff import FIRST_S, LONGEST_S, Backoff


def test_pauses_double_up_to_the_longest_and_begin_again():
    backoff = Backoff(chance=lambda: 1.0)
    assert [backoff.next() for _ in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    backoff.reset()
    assert backoff.next() == FIRST_S


@pytest.mark.parametrize(("chance", "pause_s"), [(0.0, 1.0), (0.5, 1.5), (0.999, 1.999)])
def test_chance_takes_up_to_half_of_a_pause(chance, pause_s):
    assert Backoff(first_s=2.0, chance=lambda: chance).next() == pytest.approx(pause_s)


def test_what_the_server_asks_for_is_never_cut_short():
    backoff = Backoff(first_s=1.0, longest_s=4.0, chance=lambda: 0.0)
    assert [backoff.next(at_least_s=7.0) for _ in range(4)] == [7.5, 8.0, 9.0, 9.0]
    assert backoff.next(at_least_s=0.0) == 2.0
    assert repr(backoff) == "<Backoff next 4 s>"


@given(st.lists(st.floats(0, 1), max_size=20))
def test_a_pause_is_never_nothing_nor_above_the_limit(numbers):
    for number in numbers:
        backoff = Backoff(chance=partial(float, number))
        for _ in range(10):
            assert FIRST_S / 2 <= backoff.next() <= LONGEST_S
