"""Heads of requests: what is read from them, what is refused, and that a foreign parser reads the same."""

import contextlib

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from maesh_core.errors import ClientProtocolError
from maesh_core.proxy.http.messages.request_head import CACHED_HEAD_LIMIT_BYTES, CHUNKED
from maesh_core.proxy.http.messages.request_parsing import HeadReaders, parse_request_head
from maesh_core.settings import CarryingSettings

from .request_heads import START, end_head, mutated_heads


def read_status(head):
    with pytest.raises(ClientProtocolError) as caught:
        parse_request_head(head)
    return caught.value.status


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        (b"Service.Test.Maesh", b"service.test.maesh"),
        (b"a.maesh.", b"a.maesh"),
        (b"a.maesh.:80", b"a.maesh"),
        (b"a.maesh:", b"a.maesh"),
        (b"a.maesh:65535", b"a.maesh"),
        (b"[FD00::1]:80", b"[fd00::1]"),
        (b"[fd00::1]", b"[fd00::1]"),
        (b"10.0.0.1:8080", b"10.0.0.1"),
        (b"", b""),
    ],
)
def test_hosts_are_taken_without_case_port_and_final_dot(authority, host):
    for line in (b"Host: " + authority, b"hOST:" + authority + b" \t"):
        head = parse_request_head(b"GET / HTTP/1.1\r\n" + line + b"\r\n\r\n")
        assert (head.host, head.authority) == (host, authority)


@pytest.mark.parametrize(
    "authority",
    [b"a b", b"a/b", b"a@b", b"a\\b", b"a:b", b"a:123456", b"[g]", b"[]", b"fd00::1", b"[::1", b"a%zz", b"\xc3\xa4"],
)
def test_malformed_hosts_are_refused(authority):
    assert read_status(b"GET / HTTP/1.1\r\nHost: " + authority + b"\r\n\r\n") == 400


@pytest.mark.parametrize(
    ("target", "wanted", "host"),
    [
        (b"/", b"/", b"a"),
        (b"//x/../%2e;y?z=/?", b"//x/../%2e;y?z=/?", b"a"),
        (b"http://B:80/x", b"/x", b"b"),
        (b"HTTP://b", b"/", b"b"),
        (b"http://b?x", b"/?x", b"b"),
        (b"http://[::1]/", b"/", b"[::1]"),
    ],
)
def test_targets_are_origin_form_or_absolute_form_whose_host_wins(target, wanted, host):
    head = parse_request_head(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (head.target, head.host) == (wanted, host)


@pytest.mark.parametrize(
    "target",
    [
        b"*",
        b"a",
        b"a:80",
        b"/#x",
        b"/\x80",
        b"/\x7f",
        b"?x",
        b"http:///x",
        b"http://u@b/",
        b"https://b/",
        b"http://b#x",
    ],
)
def test_other_targets_are_refused(target):
    assert read_status(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n") == 400


@pytest.mark.parametrize("target", [b"*", b"http://a"])
def test_options_may_ask_for_the_whole_server(target):
    assert parse_request_head(b"OPTIONS " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n").target == b"*"


@pytest.mark.parametrize(
    "line",
    [b"GET  /", b"GET /\t", b" GET /", b"GET / ", b"GET", b"GET / x", b"G\0T /", b"(GET) /", b"GET\x0b/", b"\r\nGET /"],
)
def test_malformed_request_lines_are_refused(line):
    assert read_status(line + b" HTTP/1.1\r\nHost: a\r\n\r\n") == 400


@pytest.mark.parametrize(
    "version", [b"http/1.1", b"HTTP/1", b"HTTP/1.1 ", b"HTTP/11", b"HTTP/1.10", b"RTSP/1.0", b"ICE/1.1"]
)
def test_malformed_versions_are_refused(version):
    assert read_status(b"GET / " + version + b"\r\nHost: a\r\n\r\n") == 400


BODIES = [
    (b"Content-Length: 0", 0),
    (b"Content-Length: 5", 5),
    (b"content-length:\t007 ", 7),
    (b"Content-Length: 999999999999999999", 999999999999999999),
    (b"Transfer-Encoding: chunked", CHUNKED),
    (b"TRANSFER-ENCODING:CHUNKED ", CHUNKED),
    (b"Transfer_Encoding: chunked", 0),
    (b"X: y", 0),
    (b"Connection: transfer-encoding\r\nTransfer-Encoding: chunked", CHUNKED),
    (b"Connection: content-length\r\nContent-Length: 5", 5),
]


@pytest.mark.parametrize(("lines", "body"), BODIES)
def test_a_body_ends_where_one_field_says(lines, body):
    assert parse_request_head(START + lines + b"\r\n\r\n").body == body


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (b"Content-Length: +5", 400),
        (b"Content-Length: -5", 400),
        (b"Content-Length: 0x5", 400),
        (b"Content-Length: 5, 5", 400),
        (b"Content-Length: 5;", 400),
        (b"Content-Length: 5 5", 400),
        (b"Content-Length:", 400),
        (b"Content-Length: 9999999999999999999", 400),
        (b"Content-Length: 99999999999999999999", 400),
        (b"Content-Length: 5\r\ncontent-length: 6", 400),
        (b"Content-Length: 5\r\nTransfer-Encoding: chunked", 400),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 5", 400),
        (b"Transfer-Encoding: gzip\r\nContent-Length: 5", 400),
        (b"Transfer-Encoding: chunked, chunked", 400),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
        (b"Transfer-Encoding: chunked, gzip", 400),
        (b"Transfer-Encoding: identity", 400),
        (b"Transfer-Encoding:", 400),
        (b'Transfer-Encoding: "chunked"', 400),
        (b"Transfer-Encoding: \x0bchunked", 400),
        (b"Transfer-Encoding : chunked", 400),
        (b"Transfer-Encoding: gzip, chunked", 501),
        (b"Transfer-Encoding: xchunked", 501),
        (b"Transfer-Encoding: chunked;x=y", 400),
        (b"Transfer-Encoding: gzip\nX: y", 400),
        (b"Expect: x", 417),
        (b"Expect: 100-continue\r\nExpect: x", 417),
    ],
)
def test_framing_that_could_be_read_in_two_ways_is_refused(lines, status):
    assert read_status(START + lines + b"\r\n\r\n") == status


def test_transfer_encoding_is_no_part_of_http_1_0():
    assert read_status(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n") == 400


@pytest.mark.parametrize(
    ("version", "lines", "is_keep_alive"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"Connection: x, CLOSE\r\n", False),
        (b"1.1", b"Connection: keep-alive\r\nConnection: close\r\n", False),
        (b"1.1", b"Connection: closed\r\n", True),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: Keep-Alive\r\n", True),
    ],
)
def test_version_and_connection_decide_whether_a_client_stays_connected(version, lines, is_keep_alive):
    head = parse_request_head(b"GET / HTTP/" + version + b"\r\nHost: a\r\n" + lines + b"\r\n")
    assert head.is_keep_alive is is_keep_alive


@pytest.mark.parametrize(
    ("version", "lines", "takes_trailers"),
    [
        (b"1.1", b"", False),
        (b"1.1", b"TE: trailers\r\n", True),
        (b"1.1", b"Connection: te\r\nte: gzip;q=0.5, Trailers\r\n", True),
        (b"1.1", b"TE: gzip\r\nTE: trailers\r\n", True),
        (b"1.1", b"TE: xtrailers, trailers;q=1\r\nTrailer: trailers\r\n", False),
        (b"1.0", b"TE: trailers\r\n", False),
    ],
)
def test_a_client_of_http_1_1_takes_trailers_if_its_te_says_so(version, lines, takes_trailers):
    head = parse_request_head(b"GET / HTTP/" + version + b"\r\nHost: a\r\n" + lines + b"\r\n")
    assert head.takes_trailers is takes_trailers
    assert b"\r\nte:" not in head.outgoing.lower()


@pytest.mark.parametrize("byte", [byte for byte in range(256) if byte not in range(0x20, 0x7F) and byte < 0x80])
def test_no_control_character_passes_but_the_tab(byte):
    head = START + b"X: a" + bytes([byte]) + b"b\r\n\r\n"
    if byte == 9:
        assert parse_request_head(head).outgoing == head[:-2]
    else:
        assert read_status(head) == 400
    if byte not in b":":
        assert read_status(START + b"X" + bytes([byte]) + b": y\r\n\r\n") == 400


# --- laws


@given(mutated_heads())
@example(b"\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding:\r\n\r\n")
def test_what_is_accepted_is_read_by_h11_in_the_same_way_both_as_it_came_and_as_it_goes_on(bytes_):
    with contextlib.suppress(ClientProtocolError):
        check_against_h11(bytes_, parse_request_head(bytes_))


def check_against_h11(bytes_, head):
    wanted = (head.method, {CHUNKED: "chunked"}.get(head.body, head.body))
    came = read_by_h11(bytes_)
    if came is not None:
        assert came[:2] == wanted
    method, body, target, headers = read_by_h11(head.outgoing + b"\r\n")
    assert (method, body) == wanted
    assert target == head.target
    assert [value.lower() for name, value in headers if name == b"host"] == [head.authority.lower()]
    assert not {b"te", b"transfer_encoding"} & {name for name, _ in headers} or b"_" in bytes_
    assert [value for name, value in headers if name == b"upgrade"] == [head.upgrade] * bool(head.upgrade)
    rebuilt = b"".join((head.render_start(), *head.build_headers().lines, head.framing, b"\r\n"))
    assert {*read_by_h11(rebuilt)[3]} - {(b"connection", b"keep-alive")} == {*headers} - {
        (b"connection", b"keep-alive")
    }


def read_by_h11(head):
    """Return method, length or "chunked", target and headers; None where h11 is stricter (its Host, its 1.0)."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(head)
    with contextlib.suppress(h11.RemoteProtocolError):
        event = connection.next_event()
        assert isinstance(event, h11.Request)
        assert connection.trailing_data[0] == b"" or b"Content-Length" not in head
        fields = dict(event.headers)
        body = "chunked" if b"transfer-encoding" in fields else int(fields.get(b"content-length", 0))
        return event.method, body, event.target, list(event.headers)
    return None


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_or_read_and_nothing_else(bytes_):
    with contextlib.suppress(ClientProtocolError):
        parse_request_head(end_head(bytes_))


def test_a_reader_keeps_its_last_head_unless_it_is_large():
    reader = HeadReaders(CarryingSettings()).find("10.0.0.1")
    first, second = START + b"\r\n", START + b"X: y\r\n\r\n"
    head = reader.read(first)
    assert reader.read(bytes(bytearray(first))) is head
    assert reader.read(second) == parse_request_head(second)
    assert reader.read(first) == head
    large = START + b"X: " + b"y" * CACHED_HEAD_LIMIT_BYTES + b"\r\n\r\n"
    assert reader.read(large) is not reader.read(large)


def test_a_head_that_is_no_request_is_refused_each_time_and_the_last_one_is_kept():
    reader = HeadReaders(CarryingSettings()).find("10.0.0.1")
    head = reader.read(START + b"\r\n")
    for _ in range(2):
        with pytest.raises(ClientProtocolError):
            reader.read(b"nonsense\r\n\r\n")
    assert reader.read(START + b"\r\n") is head


def test_clients_under_different_rules_never_share_a_head():
    readers = HeadReaders(CarryingSettings(forwarded_headers=("10.0.0.0/8",)))
    claim = START + b"X-Forwarded-For: 1.2.3.4\r\n\r\n"
    for address in ("10.0.0.1", "192.0.2.1", "10.0.0.2", "192.0.2.2"):
        forwarded = readers.find(address).read(claim).forwarded or {}
        assert (b"x-forwarded-for" in forwarded) == address.startswith("10.")
    assert readers.find("10.0.0.1") is readers.find("10.0.0.2")
