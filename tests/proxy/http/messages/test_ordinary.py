"""The patterns of ordinary heads say what the close reading says, or nothing."""

import contextlib

import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st

from maesh_core.errors import ClientProtocolError, UpstreamProtocolError
from maesh_core.proxy.http.messages.head_rules import HeadRules
from maesh_core.proxy.http.messages.ordinary import match_request, match_response
from maesh_core.proxy.http.messages.request_parsing import _parse_in_full as read_request_closely
from maesh_core.proxy.http.messages.request_parsing import parse_request_head
from maesh_core.proxy.http.messages.response_head import _parse_in_full as read_response_closely
from maesh_core.proxy.http.messages.response_head import parse_response_head

LINES = [
    b"Host: a",
    b"host:\tA.b:80 ",
    b"Accept: */*",
    b"X-Empty:",
    b"X-Obs: \xff\x80",
    b"Te-St: 1",
    b"Date: now",
    b"Server: x",
    b"Content-Type: text/plain",
    b"Connection: keep-alive",
    b"connection: keep-alive",
    b"Connection: close",
    b"Content-Length: 5",
    b"content-length:0",
    b"Transfer-Encoding: chunked",
    b"Expect: 100-continue",
    b"Upgrade: x",
    b"X-Real-Ip: 1",
    b"X-Forwarded-For: 1",
    b"Proxy-Authorization: x",
    b"TE: trailers",
    b"Forwarded: for=1",
    b"X-Forwarded-Prefix: /",
    b"X_Forwarded_For: 1",
    b"x-real_ip: 1",
    b"Content_Length: 5",
    b"Transfer_encoding: chunked",
    b"X_Other: 1",
]
STRICT_RULES = HeadRules(keeps_forwarded=False)
ODD = [b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b"\0", b"\x7f", b"\x80", b"(", b"5", b"x"]


def list_lines(outgoing):
    """List what goes on, whatever its order, and the spelling of what the mesh writes anew."""
    lines = [line.lower().replace(b"content-length:0", b"content-length: 0") for line in outgoing.split(b"\r\n")]
    return sorted(b" ".join(line.replace(b":", b": ", 1).split()) for line in lines)


@st.composite
def heads(draw, first_lines):
    lines = [draw(st.sampled_from(first_lines)), *draw(st.lists(st.sampled_from(LINES), max_size=4))]
    head = b"\r\n".join(lines)
    if draw(st.booleans()):
        start = draw(st.integers(0, len(head)))
        head = head[:start] + draw(st.sampled_from(ODD)) + head[start + draw(st.integers(0, 1)) :]
    return (head + b"\r\n\r\n").partition(b"\r\n\r\n")[0] + b"\r\n\r\n"


@given(heads([b"GET / HTTP/1.1", b"POST /x?y=%20 HTTP/1.1", b"BREW / HTTP/1.1", b"GET * HTTP/1.1", b"GET / HTTP/1.0"]))
@example(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n")
def test_what_the_pattern_of_a_request_reads_is_what_the_close_reading_reads(head):
    if match_request(head):
        event("ordinary")
        with contextlib.suppress(ClientProtocolError):
            read, closely = parse_request_head(head, STRICT_RULES), read_request_closely(head, STRICT_RULES)
            assert list_lines(read.outgoing) == list_lines(closely.outgoing)
            read.outgoing = closely.outgoing = b""
            assert read == closely


@given(
    heads([b"HTTP/1.1 200 OK", b"HTTP/1.1 204 ", b"HTTP/1.1 304 x", b"HTTP/1.1 101 x", b"HTTP/1.0 200 OK"]),
    st.booleans(),
)
@example(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", False)
@example(b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n", True)
def test_what_the_pattern_of_a_response_reads_is_what_the_close_reading_reads(head, is_head_request):
    if match_response(head):
        event("ordinary")
        try:
            closely = read_response_closely(head, is_head_request=is_head_request)
        except UpstreamProtocolError:
            with pytest.raises(UpstreamProtocolError):
                parse_response_head(head, is_head_request=is_head_request)
        else:
            read = parse_response_head(head, is_head_request=is_head_request)
            assert not read.is_plain or (read.is_keep_alive and match_response(head))
            assert list_lines(read.outgoing) == list_lines(closely.outgoing)
            read.outgoing = closely.outgoing = b""
            read.is_plain = False
            assert read == closely


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length:  5",
        b"Content-Length: 5 ",
        b"Content-Length: +5",
        b"Content-Length: 5\r\nContent-Length: 5",
        b"Host: a",
        b"Connection: keep-alive, x",
        b"Connection: keep-alive\r\nConnection: keep-alive",
        b"Transfer-Encoding: chunked",
        b"eXPECT: 100-continue",
        b"uPGRADE: x",
        b"tE: trailers",
        b"pROXY-CONNECTION: x",
        b"kEEP-ALIVE: x",
        b"x-fORWARDED-SERVER: x",
        b"X: a\r\n b",
        b"X : a",
        b": a",
        b"X",
    ],
)
def test_a_request_with_more_to_say_is_not_ordinary(lines):
    assert match_request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert not match_request(b"GET / HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n\r\n")


def test_fields_whose_names_only_begin_like_those_of_the_mesh_are_ordinary():
    lines = b"Hosts: 1\r\nContent-Type: 2\r\nTea: 3\r\nX-Real: 4\r\nUpgrade-Insecure-Requests: 5\r\nConnect: 6\r\n"
    assert match_request(b"GET / HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n")
