"""The number of requests that pass a middleware by."""

from maesh_core.model.skip_count import SkipCount


def test_a_count_shows_its_number():
    count = SkipCount()
    assert repr(count) == "<SkipCount 0>"
    count.left = 3
    assert repr(count) == "<SkipCount 3>"
