"""Limits and counters of copies: copies in, room or none, and metrics."""

from maesh_core.proxy.http.copies import (
    ANSWERED,
    COPIED_BYTES_LIMIT,
    COPY_LIMIT,
    DISCARDED_LIMIT_BYTES,
    DROPPED,
    TIMED_OUT,
    Copies,
)


class Copy:
    """A copy in progress that notes its outcome."""

    def __init__(self, deadline=100.0, discarded_bytes=0):
        self.deadline, self.discarded_bytes, self.outcomes = deadline, discarded_bytes, []

    def end(self, outcome):
        self.outcomes.append(outcome)


def test_a_side_service_has_room_for_a_number_of_copies_whatever_others_use():
    copies = Copies()
    for _ in range(COPY_LIMIT):
        assert copies.has_room("a", 1)
        copies.add(Copy(), "a", 1)
    assert not copies.has_room("a", 0)
    assert copies.has_room("b", 0)


def test_bodies_of_all_copies_share_one_limit():
    copies, first = Copies(), Copy()
    copies.add(first, "a", COPIED_BYTES_LIMIT - 1)
    assert copies.has_room("b", 1)
    assert not copies.has_room("b", 2)
    copies.remove(first, "a", COPIED_BYTES_LIMIT - 1)
    assert copies.has_room("b", COPIED_BYTES_LIMIT)
    assert not copies.open


def test_copies_that_are_late_or_too_long_are_ended():
    copies = Copies()
    late, long, fine = Copy(deadline=10), Copy(discarded_bytes=DISCARDED_LIMIT_BYTES + 1), Copy(deadline=11)
    for copy in (late, long, fine):
        copies.add(copy, "a", 0)
    copies.sweep(10.0)
    assert (late.outcomes, long.outcomes, fine.outcomes) == ([TIMED_OUT], [ANSWERED], [])


def test_the_metric_has_service_destination_and_outcome():
    copies = Copies()
    copies.count("a", "a/b", ANSWERED)
    copies.count("a", "a/b", ANSWERED)
    copies.count("a", "a/b", DROPPED)
    (family,) = copies.collect()
    assert family.name == "maesh_service_copies"
    assert family.samples == [(("a", "a/b", "answered"), 2), (("a", "a/b", "dropped"), 1)]
