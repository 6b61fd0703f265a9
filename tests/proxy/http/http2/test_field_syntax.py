"""Rules for header lists that requests, responses and trailers share."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.errors import MalformedMessageError
from maesh_core.proxy.http.http2.field_syntax import build_fields, read_length, render_line, split_pseudo_fields
from maesh_core.values.field_rules import is_field_value, is_token

NO_PSEUDO = frozenset()
BYTES = [bytes([byte]) for byte in range(256)]


def is_accepted(name, value):
    try:
        return split_pseudo_fields(((name, value),), NO_PSEUDO) == ({}, [(name, value)])
    except MalformedMessageError:
        return False


def test_a_name_is_a_token_in_lower_case():
    wanted = [b"a%bb" % each for each in BYTES if is_token(each) and each == each.lower()]
    assert [name for each in BYTES if is_accepted(name := b"a%bb" % each, b"")] == wanted
    assert not is_accepted(b"", b"")


def test_a_value_has_the_characters_that_http_1_accepts_and_no_whitespace_around_it():
    wanted = [each for each in BYTES if is_field_value(each) and each not in b"\t "]
    assert [each for each in BYTES if is_accepted(b"x", each + b"b")] == wanted
    assert [each for each in BYTES if is_accepted(b"x", b"a" + each)] == wanted
    assert [each for each in BYTES if is_accepted(b"x", b"a%bb" % each)] == [b"\t", b" ", *wanted][: len(wanted) + 2]
    assert is_accepted(b"x", b"")


def test_pseudo_fields_are_returned_by_name_and_must_be_known():
    fields = ((b":a", b"1"), (b":b", b""), (b"c", b"2"), (b"c", b"3"))
    assert split_pseudo_fields(fields, frozenset({b":a", b":b", b":d"})) == (
        {b":a": b"1", b":b": b""},
        list(fields[2:]),
    )
    with pytest.raises(MalformedMessageError):
        split_pseudo_fields(fields, frozenset({b":a"}))


def test_a_length_is_declared_once_or_not_at_all():
    assert read_length([(b"x", b"1"), (b"content-length", b"007")]) == 7
    assert read_length([(b"x", b"1")]) == -1


LINES = st.lists(st.tuples(st.from_regex(rb"[A-Za-z_-]{1,9}", fullmatch=True), st.binary(max_size=5)))


@given(LINES)
def test_rendered_fields_are_built_again(fields):
    lines = [render_line(name, value)[:-2] for name, value in fields]
    forbidden = (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"te")
    wanted = [(name.lower(), value.strip(b" \t")) for name, value in fields if name.lower() not in forbidden]
    assert build_fields([*lines, b""]) == wanted
