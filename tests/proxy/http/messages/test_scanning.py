"""A scan accepts exactly the heads that the pattern accepts, and finds the same parts."""

import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st

from maesh_core.proxy.http.messages import scanning
from maesh_core.proxy.http.messages.ordinary import find_in_request, find_in_response
from maesh_core.proxy.http.messages.scanning import CACHED_NAME_BYTES, CACHED_NAMES, scan_request, scan_response
from maesh_core.values.field_rules import search_trace_context

NAMES = [
    b"Host", b"Connection", b"Content-Length", b"Content_Length", b"Transfer-Encoding", b"Transfer_Encoding",
    b"Keep-Alive", b"Proxy-Authenticate", b"Proxy-Authorization", b"Proxy-Connection", b"TE", b"Upgrade", b"Expect",
    b"Forwarded", b"X-Forwarded-For", b"X_Forwarded_For", b"X-Forwarded_", b"X-Forwarded", b"X-Real-Ip", b"x_real_ip",
    b"X-Real-Ipx",
    b"traceparent", b"b3", b"X-B3-Sampled", b"X-B3", b"tracestate",
    b"Hosts", b"Tea", b"Cookie", b"Accept", b"Z", b"", b"X y", b"\xff",
]  # fmt: skip
VALUES = [
    b"", b"a", b" a", b"a.b:80", b"\ta:1 ", b"a:123456", b"a:", b":", b"[::1]", b" close", b" keep-alive", b"close",
    b" Close", b" 5", b"5", b"  5", b" 5 ", b" +5", b" 123456789012345678", b" 1234567890123456789", b" chunked",
    b"chunked", b" chunked ", b" Chunked", b" \xff\x80", b" \x7f", b" a\rb", b" a\nb", b" \0",
]  # fmt: skip
REQUEST_LINES = [
    b"GET / HTTP/1.1", b"POST /x?y=%20 HTTP/1.1", b"get / HTTP/1.1", b"GET * HTTP/1.1", b"GET /a#b HTTP/1.1",
    b"GET /\x7f HTTP/1.1", b"GET / HTTP/1.0", b"GET  / HTTP/1.1", b" / HTTP/1.1", b"GET", b"",
]  # fmt: skip
STATUS_LINES = [
    b"HTTP/1.1 200 OK", b"HTTP/1.1 204 ", b"HTTP/1.1 304", b"HTTP/1.1 101 x", b"HTTP/1.1 600 x", b"HTTP/1.1 2x0 x",
    b"HTTP/1.1 200 a\x7f", b"HTTP/1.0 200 OK", b"HTTP/1.1 ", b"",
]  # fmt: skip
ODD = [b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b"\0", b"\x7f", b"\x80", b"(", b"5", b"x"]


@st.composite
def spellings(draw, names):
    name = draw(st.sampled_from(names))
    return draw(st.sampled_from([name, name.lower(), name.upper(), name.swapcase(), name.capitalize(), name.title()]))


@st.composite
def heads(draw, first_lines):
    fields = draw(st.lists(st.tuples(spellings(NAMES), st.sampled_from(VALUES)), max_size=5))
    head = b"\r\n".join([draw(st.sampled_from(first_lines)), *(b":".join(field) for field in fields)]) + b"\r\n\r\n"
    for _ in range(draw(st.integers(0, 2))):
        start = draw(st.integers(0, len(head)))
        head = head[:start] + draw(st.sampled_from(ODD)) + head[start + draw(st.integers(0, 1)) :]
    return head


def list_parts(found):
    if found is None:
        return None
    return (
        found.first,
        found.second,
        (found.authority_start, found.authority_end),
        (found.length_start, found.length_end),
        (found.connection_start, found.connection_end),
        found.is_chunked,
    )


@given(heads(REQUEST_LINES) | st.binary(max_size=60))
@example(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 5\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n\r\n")
@example(b"GET / HTTP/1.1\r\n\r\nHost: a\r\n\r\n")
def test_a_scan_of_a_request_finds_what_the_pattern_finds(head):
    found = list_parts(find_in_request(head))
    event("ordinary" if found else "not ordinary")
    scanned = scan_request(head)
    assert list_parts(scanned) == found
    if scanned is not None:
        assert scanned.trace == int(search_trace_context(head) is not None)


@given(heads(STATUS_LINES) | st.binary(max_size=60))
@example(b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n")
@example(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n")
def test_a_scan_of_a_response_finds_what_the_pattern_finds(head):
    found = list_parts(find_in_response(head))
    event("ordinary" if found else "not ordinary")
    assert list_parts(scan_response(head)) == found


@pytest.mark.parametrize(
    ("scan", "find", "head"),
    [
        (scan_request, find_in_request, b"GET /a HTTP/1.1\r\nHost: a:80\r\nX: y\r\nContent-Length: 12\r\n\r\n"),
        (scan_response, find_in_response, b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 12\r\n\r\n"),
    ],
)
def test_a_byte_of_any_value_at_any_place_is_judged_alike(scan, find, head):
    assert find(head) is not None
    for place in range(len(head)):
        for value in range(256):
            changed = head[:place] + bytes([value]) + head[place + 1 :]
            assert list_parts(scan(changed)) == list_parts(find(changed)), changed


@pytest.mark.parametrize(
    ("scan", "first_line", "kinds"),
    [
        (scan_request, b"GET / HTTP/1.1", scanning._kinds_in_requests),
        (scan_response, b"HTTP/1.1 200 OK", scanning._kinds_in_responses),
    ],
)
def test_the_cache_of_names_is_bounded_and_never_closed_to_new_names(scan, first_line, kinds):
    def scan_name(name):
        return scan(b"%b\r\n%b: y\r\n\r\n" % (first_line, name))

    for number in range(3 * CACHED_NAMES):
        assert scan_name(b"X-%d" % number) is not None
        assert len(kinds) <= CACHED_NAMES
    assert b"X-%d" % (3 * CACHED_NAMES - 1) in kinds
    assert scan_name(b"X" * (CACHED_NAME_BYTES + 1)) is not None
    assert b"X" * (CACHED_NAME_BYTES + 1) not in kinds
    assert scan_name(b"Upgrade") is scan_name(b"Upgrade") is None
