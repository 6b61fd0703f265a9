"""Values of sessions: what is built can be read, and nothing else."""

from base64 import urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from maesh_session.session_values import (
    KEPT_FIELD_BYTES,
    KEPT_FIELDS,
    KEPT_VALUES,
    Readings,
    SessionValue,
    SessionValues,
)

SERVER = ("10.0.1.1", 80)
TIMES = st.integers(0, 2**32 - 1)


def build(*, key=b"k" * 32, has_times=True):
    return SessionValues(key, has_times=has_times)


@given(TIMES, TIMES, st.booleans())
def test_what_is_built_can_be_read_by_all_with_the_key(started, used, has_times):
    values = build(has_times=has_times)
    token = values.build_token("part", SERVER)
    found = build(has_times=has_times).read(values.build(token, started, used))
    assert found == ((token, started, used) if has_times else (token, 0, 0))


def test_a_token_is_that_of_one_server_of_one_part_and_shows_no_address():
    values = build()
    tokens = [
        values.build_token("", SERVER),
        values.build_token("a", SERVER),
        values.build_token("", ("10.0.1.1", 8)),
        values.build_token("", ("10.0.1.2", 80)),
        build(key=b"l" * 32).build_token("", SERVER),
    ]
    assert len(set(tokens)) == 5
    assert values.build_token("", SERVER) == tokens[0]
    assert not any(b"10.0" in token for token in tokens)


@pytest.mark.parametrize("value", [b"", b"a", b"a" * 23, b"a" * 25, b"a" * 47, b"a" * 72, b"a" * 23 + b"=", b"+" * 24])
@pytest.mark.parametrize("has_times", [False, True])
def test_what_has_another_form_is_not_read(value, has_times):
    assert build(has_times=has_times).read(value) is None


@given(st.binary(max_size=80))
def test_no_bytes_are_a_value_by_chance(value):
    assert build().read(value) is None
    assert build().read(urlsafe_b64encode(value)) is None


@given(st.integers(0, 47), st.integers(1, 63))
def test_a_value_with_a_changed_character_is_not_read(position, shift):
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    values = build()
    value = bytearray(values.build(values.build_token("", SERVER), 1000, 1000))
    value[position] = alphabet[(alphabet.index(value[position]) + shift) % 64]
    assert values.read(bytes(value)) is None


def test_a_value_of_another_key_is_not_read():
    other = build(key=b"l" * 32)
    assert build().read(other.build(other.build_token("", SERVER), 1, 1)) is None


def test_what_is_kept_of_fields_is_bounded():
    readings, value = Readings(), SessionValue(b"t", 0, 0)
    readings.keep(1, b"a" * KEPT_FIELD_BYTES + b"a", (value,))
    readings.keep(1, b"b", (value,) * (KEPT_VALUES + 1))
    assert readings.get(1, b"a" * KEPT_FIELD_BYTES + b"a") is readings.get(1, b"b") is None
    for number in range(2 * KEPT_FIELDS):
        readings.keep(number % 2, b"%d" % number, (value,))
        assert readings.get(number % 2, b"%d" % number) == (value,)
        assert readings.get(2, b"%d" % number) is None
    assert len(readings._found) <= KEPT_FIELDS
