"""Header fields as middlewares read and change them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.proxy.protocol.http.headers import Headers, parse_headers, render_field

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\nX:1\r\nx: \t2 \r\nXY: 3\r\nEmpty:\r\n\r\n"


def test_fields_keep_their_order_and_form():
    assert parse_headers(HEAD, without={b"host"}) == [b"X:1\r\n", b"x: \t2 \r\n", b"XY: 3\r\n", b"Empty:\r\n"]


def test_names_are_compared_without_case_and_whole():
    headers = parse_headers(HEAD, without=())
    assert headers.get(b"X") == b"1"
    assert headers.get_all(b"x") == [b"1", b"2"]
    assert headers.get(b"empty") == b""
    assert headers.get(b"E") is None
    assert headers.get_all(b"none") == []


def test_set_replaces_all_add_appends_and_remove_takes_all():
    headers = parse_headers(HEAD, without={b"host", b"empty"})
    headers.set(b"x", b"9")
    assert headers == [b"XY: 3\r\n", b"x: 9\r\n"]
    headers.add(b"X", b"8")
    assert headers.get_all(b"x") == [b"9", b"8"]
    headers.remove(b"X")
    headers.remove(b"none")
    assert headers == [b"XY: 3\r\n"]


def test_what_may_not_be_set_changes_nothing():
    headers = Headers([b"X: 1\r\n"])
    for name, value in [(b"X", b"a\r\nb"), (b"X", b"\0"), (b"X\r\n", b"a"), (b"", b"a"), (b"connection", b"close")]:
        with pytest.raises(ValueError):
            headers.set(name, value)
    assert headers == [b"X: 1\r\n"]


@given(st.binary(max_size=8), st.binary(max_size=8))
def test_whatever_is_rendered_is_one_line(name, value):
    try:
        line = render_field(name, value)
    except ValueError:
        return
    assert line.count(b"\r") == line.count(b"\n") == 1
    assert line.endswith(b"\r\n")
    assert parse_headers(b"GET\r\n" + line + b"\r\n", without=()).get(name) == value.strip()
