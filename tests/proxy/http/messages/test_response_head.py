"""Heads of responses: where the body ends, what goes on, who stays connected."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.errors import UpstreamProtocolError
from maesh_core.proxy.http.messages.request_head import CHUNKED
from maesh_core.proxy.http.messages.response_head import UNTIL_CLOSE, parse_response_head


def parse(lines=b"", *, status=b"200 OK", version=b"1.1", is_head_request=False):
    return parse_response_head(
        b"HTTP/" + version + b" " + status + b"\r\n" + lines + b"\r\n", is_head_request=is_head_request
    )


@pytest.mark.parametrize(
    ("lines", "status", "is_head_request", "left"),
    [
        (b"Content-Length: 5 \r\n", b"200 OK", False, 5),
        (b"Transfer-Encoding: Chunked\r\n", b"200 OK", False, CHUNKED),
        (b"", b"200 OK", False, UNTIL_CLOSE),
        (b"Content-Length: 5\r\n", b"200 OK", True, 0),
        (b"", b"200 OK", True, 0),
        (b"Content-Length: 5\r\n", b"304 Not Modified", False, 0),
        (b"Content-Length: 5\r\n", b"204 No Content", False, 0),
        (b"Transfer-Encoding: chunked\r\n", b"103 Early Hints", False, 0),
    ],
)
def test_a_body_ends_where_status_method_and_one_field_say(lines, status, is_head_request, left):
    assert parse(lines, status=status, is_head_request=is_head_request).left == left


@pytest.mark.parametrize(
    ("version", "lines", "is_keep_alive"),
    [
        (b"1.1", b"Content-Length: 0\r\n", True),
        (b"1.1", b"Content-Length: 0\r\nConnection: CLOSE\r\n", False),
        (b"1.0", b"Content-Length: 0\r\n", False),
        (b"1.0", b"Content-Length: 0\r\nConnection: Keep-Alive\r\n", True),
        (b"1.1", b"", False),
    ],
)
def test_version_and_connection_and_framing_decide_whether_a_server_stays_connected(version, lines, is_keep_alive):
    assert parse(lines, version=version).is_keep_alive is is_keep_alive


def test_what_is_plain_passes_as_it_came_and_the_rest_without_what_stops_here():
    plain = parse(b"X:  y \r\nConnection: keep-alive\r\nContent-Length: 1\r\n")
    assert plain.is_plain
    assert plain.outgoing == b"HTTP/1.1 200 OK\r\nX:  y \r\nContent-Length: 1\r\n"
    other = parse(b"X:  y \r\nConnection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nContent-Length: 1\r\n")
    assert not other.is_plain
    assert other.outgoing == b"HTTP/1.1 200 OK\r\nX:  y \r\nContent-Length: 1\r\n"
    assert other.build_headers().lines == [b"X:  y \r\n"]


def test_connection_cannot_name_the_framing_away():
    head = parse(b"Connection: content-length\r\nContent-Length: 5\r\n")
    assert head.left == 5
    assert head.outgoing == b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"


def test_no_length_goes_on_with_a_status_that_has_none():
    assert parse(b"Content-Length: 5\r\n", status=b"204 No").outgoing == b"HTTP/1.1 204 No\r\n"
    assert parse(b"Transfer-Encoding: chunked\r\n", status=b"100 Go").outgoing == b"HTTP/1.1 100 Go\r\n"


@pytest.mark.parametrize(
    "line", [b"HTTP/1.1 20 OK", b"HTTP/1.1 2000 OK", b"HTTP/1.2 200 OK", b"HTTP/1.1  200", b"x", b""]
)
def test_malformed_status_lines_are_refused(line):
    with pytest.raises(UpstreamProtocolError):
        parse_response_head(line + b"\r\nContent-Length: 0\r\n\r\n", is_head_request=False)


@given(st.binary(max_size=80))
def test_arbitrary_bytes_are_refused_or_read_and_nothing_else(bytes_):
    for begin in (b"", b"HTTP/1.1 200 OK\r\n"):
        with contextlib.suppress(UpstreamProtocolError):
            parse_response_head(
                (begin + bytes_ + b"\r\n\r\n").partition(b"\r\n\r\n")[0] + b"\r\n\r\n", is_head_request=False
            )
