"""Conditions on a field: a search of the head's bytes and a look at its values come to the same answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.model.header_matching import SEARCHED_LIMIT_BYTES, HeaderCondition
from maesh_core.model.matches import HeaderMatch, HttpMatch
from maesh_core.model.matching import compile_matches
from maesh_core.proxy.http.messages.request_parsing import parse_request_head

NAMES = st.sampled_from(["x-a", "x-ab", "host", "x-forwarded-for", "te", "expect", "x.b"])
VALUES = st.text(alphabet="ab: \t", max_size=4)
LINES = st.lists(st.tuples(NAMES | NAMES.map(str.title), VALUES), max_size=4)
MATCHES = st.builds(HeaderMatch, name=NAMES, value=VALUES) | st.builds(
    HeaderMatch, name=NAMES, pattern=st.sampled_from(["", "a", "^a", "b$", "a b", " a", "a+", "^$", "a" * 100])
)


def render(lines: list[tuple[str, str]], connection: str = "") -> bytes:
    fields = "".join(f"{name}: {value}\r\n" for name, value in lines if name.lower() not in ("host", "te", "expect"))
    return f"GET / HTTP/1.1\r\nHost: a\r\nConnection: {connection or 'close'}\r\n{fields}\r\n".encode()


class Values:
    """A request without the bytes of its head."""

    def __init__(self, request):
        self.method, self.target, self.client_headers = request.method, request.target, request.client_headers


@given(MATCHES, LINES, st.sampled_from(["", "x-a"]))
def test_a_head_is_matched_as_its_values_are(match, lines, connection):
    head = parse_request_head(render(lines, connection))
    expected = any(
        (value == match.value.encode()) if match.value is not None else is_found(match.pattern, value)
        for value in head.client_headers.get_all(match.name.encode())
    )
    holds = compile_matches((HttpMatch(headers=(match,)),))
    assert holds(head) is expected
    assert holds(Values(head)) is expected


def is_found(pattern, value):
    import re

    return re.search(pattern.encode(), value) is not None


def test_a_field_that_is_not_forwarded_does_not_count():
    holds = compile_matches((HttpMatch(headers=(HeaderMatch(name="x-a", value="1"),)),))
    assert holds(parse_request_head(b"GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\r\n\r\n"))
    assert not holds(parse_request_head(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x-a\r\nX-A: 1\r\n\r\n"))


def test_any_line_of_a_field_is_enough_and_names_have_no_case():
    holds = HeaderCondition(HeaderMatch(name="X-A", value="two")).holds_head
    assert holds(b"GET / HTTP/1.1\r\nx-a: one\r\nX-a:two \r\n\r\n")
    assert not holds(b"GET / HTTP/1.1\r\nx-ab: two\r\nx-b: x-a: two\r\nx-a: Two\r\n\r\n")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("match", [{"value": "a" * 4096}, {"pattern": "a" * 4000 + "b"}, {"pattern": "a" * 64 + "b"}])
def test_a_large_head_does_not_take_long(match):
    condition = HeaderCondition(HeaderMatch(name="x-a", **match))
    assert not condition.holds_head(b"GET / HTTP/1.1\r\n" + b"x-a: " + b"a" * 64_000 + b"\r\n\r\n")
    assert not condition.holds_head(b"GET / HTTP/1.1\r\n" + b"x-a:a\r\n" * 9000 + b"\r\n")
    assert not condition.holds([b"a" * 64_000])
    assert SEARCHED_LIMIT_BYTES <= 64
