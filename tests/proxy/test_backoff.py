"""Delays grow, stay in bounds, and begin anew."""

from hypothesis import given
from hypothesis import strategies as st

from maesh_core.proxy.backoff import DELAY_LIMIT_S, FIRST_DELAY_S, Backoff


def test_delays_double_up_to_the_limit_and_begin_anew() -> None:
    backoff = Backoff(lambda: 1.0)
    assert [backoff.next_delay_s() for _ in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    backoff.reset()
    assert backoff.next_delay_s() == FIRST_DELAY_S


@given(st.lists(st.floats(0, 1), max_size=20))
def test_a_delay_is_never_nothing_nor_above_the_limit(numbers: list[float]) -> None:
    for number in numbers:
        backoff = Backoff(lambda number=number: number)
        for _ in range(10):
            assert FIRST_DELAY_S / 2 <= backoff.next_delay_s() <= DELAY_LIMIT_S
