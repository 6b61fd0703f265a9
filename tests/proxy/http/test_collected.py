"""The bytes of collected bodies are counted up to a limit."""

from maesh_core.proxy.http.collected import COLLECTED_BYTES_LIMIT, Collected


def test_bytes_are_reserved_up_to_the_limit_and_released():
    collected = Collected()
    assert collected.reserve(COLLECTED_BYTES_LIMIT)
    assert not collected.reserve(1)
    collected.release(1)
    assert collected.reserve(1)
    assert collected.size_bytes == COLLECTED_BYTES_LIMIT
