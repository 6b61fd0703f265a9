"""Responses and trailers of HTTP/2: what is read from their header lists, what is refused, and what is sent."""

import contextlib

import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st

from maesh_core.errors import MalformedMessageError, UpstreamProtocolError
from maesh_core.proxy.http.http2 import response_fields
from maesh_core.proxy.http.http2.response_fields import (
    CACHED_RESPONSE_BYTES,
    build_response_fields,
    build_trailer_fields,
    read_response,
    read_trailers,
)
from maesh_core.proxy.http.messages.chunked import TRAILER_LIMIT_BYTES, ChunkedError, ChunkedScanner
from maesh_core.proxy.http.messages.headers import split_field
from maesh_core.proxy.http.messages.request_head import STREAMED
from maesh_core.proxy.http.messages.response_head import UNTIL_CLOSE, parse_response_head
from maesh_core.proxy.http.messages.syntax import FORBIDDEN_TRAILERS

FORBIDDEN = {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}
CHUNKED_FIELD = b"Transfer-Encoding: chunked\r\n"


def read(*fields, status=b"200", has_body=False, is_head_request=False):
    return read_response(((b":status", status), *fields), is_head_request=is_head_request, has_body=has_body)


def test_a_response_is_read_as_if_it_had_come_in_http_1():
    head = read((b"server", b"x"), (b"x-empty", b""), has_body=True)
    assert (head.status, head.left, head.framing) == (200, STREAMED, CHUNKED_FIELD)
    assert head.outgoing == b"HTTP/1.1 200 OK\r\nserver: x\r\nx-empty: \r\n" + CHUNKED_FIELD
    assert head.build_headers().lines == [b"server: x\r\n", b"x-empty: \r\n"]
    assert head.is_keep_alive
    assert not head.is_plain


@pytest.mark.parametrize(
    ("status", "fields", "is_head_request", "has_body", "left", "framing", "declared"),
    [
        (b"200", (), False, True, STREAMED, CHUNKED_FIELD, -1),
        (b"200", (), False, False, 0, b"Content-Length: 0\r\n", 0),
        (b"200", ((b"content-length", b"5"),), False, True, STREAMED, b"Content-Length: 5\r\n", 5),
        (b"200", ((b"content-length", b"0"),), False, True, STREAMED, b"Content-Length: 0\r\n", 0),
        (b"200", ((b"content-length", b"0"),), False, False, 0, b"Content-Length: 0\r\n", 0),
        (b"200", (), True, False, 0, b"", -1),
        (b"200", (), True, True, 0, b"", -1),
        (b"200", ((b"content-length", b"5"),), True, False, 0, b"Content-Length: 5\r\n", 5),
        (b"304", ((b"content-length", b"5"),), False, False, 0, b"Content-Length: 5\r\n", 5),
        (b"304", (), False, True, 0, b"", -1),
        (b"204", (), False, True, 0, b"", -1),
        (b"204", ((b"content-length", b"5"),), False, False, 0, b"", -1),
        (b"103", ((b"content-length", b"5"),), False, True, 0, b"", -1),
        (b"100", (), True, True, 0, b"", -1),
        (b"999", (), False, True, STREAMED, CHUNKED_FIELD, -1),
    ],
)
def test_a_body_ends_where_status_method_and_the_frames_say(
    status, fields, is_head_request, has_body, left, framing, declared
):
    head = read(*fields, status=status, has_body=has_body, is_head_request=is_head_request)
    assert (head.status, head.left, head.framing, head.declared_length) == (int(status), left, framing, declared)
    assert head.is_keep_alive
    assert head.outgoing.lower().count(b"content-length") == framing.count(b"Content-Length")
    assert head.outgoing.count(CHUNKED_FIELD) == framing.count(CHUNKED_FIELD)


STATUS = (b":status", b"200")
MALFORMED = {
    "no :status": (),
    "repeated :status": (STATUS, STATUS),
    ":status after a field": ((b"x", b"y"), STATUS),
    "pseudo-field of a request": (STATUS, (b":path", b"/")),
    "unknown pseudo-field": (STATUS, (b":x", b"y")),
    **{f":status {text!r}": ((b":status", text),) for text in (b"", b"20", b"2000", b"099", b"2x0", b"200 OK", b"+20")},
    ":status with CRLF": ((b":status", b"200\r\nX: y"),),
    "switching protocols": ((b":status", b"101"),),
    "name in upper case": (STATUS, (b"X", b"y")),
    "name that is no token": (STATUS, (b"x y", b"z")),
    "value with CRLF": (STATUS, (b"x", b"a\r\nb")),
    "value with NUL": (STATUS, (b"x", b"\0")),
    "value with a space before it": (STATUS, (b"x", b" a")),
    "value with a space after it": (STATUS, (b"x", b"a ")),
    "te": (STATUS, (b"te", b"gzip")),
    "content-length is repeated": (STATUS, (b"content-length", b"0"), (b"content-length", b"0")),
    "content-length is no number": (STATUS, (b"content-length", b"x")),
    **{name.decode(): (STATUS, (name, b"close")) for name in sorted(FORBIDDEN)},
}


@pytest.mark.parametrize("fields", MALFORMED.values(), ids=MALFORMED.keys())
@pytest.mark.parametrize("has_body", [False, True])
def test_malformed_responses_are_refused(fields, has_body):
    with pytest.raises(UpstreamProtocolError, match="the upstream sent a malformed response head"):
        read_response(fields, is_head_request=False, has_body=has_body)


@pytest.mark.parametrize(
    ("status", "fields"), [(b"200", ((b"content-length", b"1"),)), (b"100", ()), (b"103", ((b"x", b"y"),))]
)
def test_responses_that_cannot_end_with_their_head_are_refused(status, fields):
    with pytest.raises(UpstreamProtocolError):
        read(*fields, status=status)


def test_a_response_is_built_with_its_status_first():
    text = (
        b"HTTP/1.1 200 OK\r\nServer: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\nKeep-Alive: 5\r\n"
        b"Proxy-Connection: close\r\nUpgrade: h2c\r\nX-Space: \t a b\t \r\nSet-Cookie: a\r\nset-cookie: b\r\n"
    )
    fields = (STATUS, (b"server", b"x"), (b"x-space", b"a b"), (b"set-cookie", b"a"), (b"set-cookie", b"b"))
    assert build_response_fields(text) == fields
    assert build_response_fields(text + b"\r\n") == fields
    assert build_response_fields(b"HTTP/1.1 100 \r\n\r\n") == ((b":status", b"100"),)


# --- trailers


def test_trailers_are_lines_of_http_1_and_those_of_grpc_pass():
    fields = ((b"grpc-status", b"0"), (b"grpc-message", b""), (b"grpc-status-details-bin", b"YQ=="))
    lines = b"grpc-status: 0\r\ngrpc-message: \r\ngrpc-status-details-bin: YQ==\r\n"
    assert read_trailers(fields) == lines
    assert build_trailer_fields(lines) == fields
    assert (read_trailers(()), build_trailer_fields(b"")) == (b"", ())


@pytest.mark.parametrize(
    "field",
    [
        *(STATUS, (b":path", b"/"), (b"X", b"y"), (b"", b"y"), (b"x y", b"z"), (b"x", b"a\r\nb"), (b"x", b" a")),
        *((b"x", b"\0"), (b"connection", b"close"), (b"transfer-encoding", b"chunked"), (b"te", b"gzip")),
    ],
)
def test_malformed_trailers_are_refused(field):
    for fields in ((field,), ((b"y", b"z"), field)):
        with pytest.raises(MalformedMessageError):
            read_trailers(fields)


@pytest.mark.parametrize(
    "name",
    [b"content-length", b"host", b"content-type", b"te", b"x-forwarded-for", b"x_real_ip", b"expect", b"trailer"],
)
def test_fields_that_may_not_be_trailers_are_dropped(name):
    assert read_trailers(((b"x", b"1"), (name, b"trailers"), (b"y", b"2"))) == b"x: 1\r\ny: 2\r\n"


def test_trailers_are_limited_in_size():
    size = TRAILER_LIMIT_BYTES - len(b"x: \r\n")
    assert len(read_trailers(((b"x", b"y" * size),))) == TRAILER_LIMIT_BYTES
    for fields in (((b"x", b"y" * (size + 1)),), ((b"x", b"y" * size), (b"host", b""))):
        with pytest.raises(MalformedMessageError, match="trailers too large"):
            read_trailers(fields)


# --- laws

VALUES = st.text(
    st.sampled_from([chr(each) for each in range(256) if each == 9 or (each >= 0x20 and each != 0x7F)]), max_size=9
).map(lambda text: text.encode("latin-1"))
LINES = st.sampled_from(
    [
        b"Server: x",
        b"X:",
        b"Set-Cookie: a=1",
        b"set-cookie:  b=2 ",
        b"Connection: close, x",
        b"Connection: keep-alive",
        b"Keep-Alive: 5",
        b"Proxy-Connection: close",
        b"Proxy-Authenticate: x",
        b"Upgrade: websocket",
        b"TE: gzip",
        b"Content-Length: 3",
        b"Content-Length: 0",
        b"Transfer-Encoding: chunked",
        b"Content_Length: 3",
    ]
) | st.builds(lambda value: b"X-Value:" + value, VALUES)
STATUS_LINES = st.sampled_from(
    [b"HTTP/1.1 %b" % text for text in (b"200 OK", b"103 Early Hints", b"204 ", b"304", b"599 x")]
    + [b"HTTP/1.0 200 OK"]
)


def list_forwardable(head):
    return [(name.lower(), value) for name, value in map(split_field, head.build_headers().lines)]


def check_list(fields):
    """Check what holds for every header list that is sent."""
    for name, value in fields:
        assert name == name.lower()
        assert name not in FORBIDDEN
        assert name != b"te"
        assert value == value.strip()
    assert [name for name, _ in fields if name.startswith(b":")] == [b":status"]
    assert fields[0][0] == b":status"


@given(STATUS_LINES, st.lists(LINES, max_size=6), st.booleans())
@example(b"HTTP/1.1 200 OK", [b"Connection: close", b"X-Value: \xa0"], False)
def test_what_http_1_accepts_is_the_same_after_http_2(line, lines, is_head_request):
    text = b"\r\n".join((line, *lines, b"", b""))
    try:
        head = parse_response_head(text, is_head_request=is_head_request)
    except UpstreamProtocolError:
        return
    event("accepted")
    has_body = head.left != 0
    fields = build_response_fields(head.outgoing)
    check_list(fields)
    read = read_response(fields, is_head_request=is_head_request, has_body=has_body or head.status < 200)
    assert (read.status, list_forwardable(read)) == (head.status, list_forwardable(head))
    assert read.left == (STREAMED if has_body else 0)
    assert read.declared_length == head.declared_length or head.left in (0, UNTIL_CLOSE)


NAMES = st.sampled_from(
    [
        *(b":status", b":path", b"content-length", b"te", b"connection", b"transfer-encoding", b"set-cookie"),
        *(b"x", b"X", b"x y", b"x:", b"x\r\ny", b"host"),
    ]
) | st.binary(max_size=3)
LOOSE_VALUES = st.sampled_from(
    [
        *(b"200", b"101", b"103", b"304", b"0", b"3", b"trailers", b"chunked", b" a", b"a\t", b"\0", b"a\nb", b"a\rb"),
        *(b"a\r\nContent-Length: 3", b"a\r\n\r\nHTTP/1.1 200 OK", b"\x80"),
    ]
) | st.binary(max_size=4)
GOOD = st.sampled_from(
    [(b"set-cookie", b"a"), (b"host", b"a"), (b"content-length", b"3"), (b"te", b"trailers"), (b"grpc-status", b"0")]
) | st.builds(lambda value: (b"x", value.strip(b" \t")), VALUES)
LOOSE = st.lists(st.tuples(NAMES, LOOSE_VALUES), max_size=2)
LISTS = st.builds(lambda good, loose: (*good, *loose), st.lists(GOOD, max_size=4), st.just([]) | LOOSE)


@given(st.sampled_from([b"200", b"204", b"304", b"103", b"404", b"600"]), LISTS, st.booleans(), st.booleans())
def test_arbitrary_lists_are_refused_or_become_one_head_of_http_1(status, fields, is_head_request, has_body):
    with contextlib.suppress(UpstreamProtocolError):
        head = read(*fields, status=status, is_head_request=is_head_request, has_body=has_body)
        event("accepted")
        is_added = head.framing not in (b"", b"Content-Length: %b\r\n" % dict(fields).get(b"content-length", b""))
        assert (
            head.head.count(b"\r\n") == head.head.count(b"\n") == head.head.count(b"\r") == len(fields) + is_added + 2
        )
        assert head.head.find(b"\r\n\r\n") == len(head.head) - 4
        sent = parse_response_head(head.outgoing + b"\r\n", is_head_request=is_head_request)
        assert (sent.status, bool(sent.left)) == (int(status), head.left != 0 and head.declared_length != 0)
        assert sent.left != UNTIL_CLOSE
        assert sent.is_keep_alive
        check_list(build_response_fields(head.outgoing))


@given(LISTS)
@example(((b"x", b""), (b"host", b"a"), (b"te", b"trailers")))
def test_arbitrary_trailers_are_refused_or_pass_as_trailers_of_http_1(fields):
    with contextlib.suppress(MalformedMessageError):
        lines = read_trailers(fields)
        event("accepted")
        scanner = ChunkedScanner()
        scanner.scan(b"0\r\n" + lines + b"\r\n")
        assert scanner.is_complete
        assert scanner.trailers == lines
        kept = tuple((name, value) for name, value in fields if name not in FORBIDDEN_TRAILERS)
        assert build_trailer_fields(lines) == kept


@given(st.lists(LINES, max_size=4).map(lambda lines: b"".join(line + b"\r\n" for line in lines)))
def test_trailers_of_http_1_are_the_same_after_http_2(lines):
    scanner = ChunkedScanner()
    with contextlib.suppress(ChunkedError):
        scanner.scan(b"0\r\n" + lines + b"\r\n")
        event("accepted")
        fields = build_trailer_fields(scanner.trailers)
        wanted = [split_field(line) for line in scanner.trailers.split(b"\r\n")[:-1]]
        assert [*fields] == [(name.lower(), value) for name, value in wanted]
        assert build_trailer_fields(read_trailers(fields)) == fields


def test_long_response_heads_are_not_cached():
    before = response_fields._build_cached.cache_info().currsize
    for number in range(50):
        build_response_fields(b"HTTP/1.1 200 OK\r\nX-Long: %d%b\r\n" % (number, b"v" * CACHED_RESPONSE_BYTES))
    assert response_fields._build_cached.cache_info().currsize == before
