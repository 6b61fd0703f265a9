"""What a parsed head of a request says: its length, and the fields as the client sent them."""

import contextlib

import pytest
from hypothesis import given

from maesh_core.errors import ClientProtocolError
from maesh_core.proxy.http.messages.headers import split_fields
from maesh_core.proxy.http.messages.request_head import KEPT_NAMES, ClientHeaders, render_start
from maesh_core.proxy.http.messages.request_parsing import parse_request_head
from maesh_core.proxy.http.messages.syntax import parse_host

from .request_heads import START, mutated_heads


@pytest.mark.parametrize(
    ("lines", "length"),
    [
        (b"", -1),
        (b"Transfer-Encoding: chunked\r\n", -1),
        (b"Expect: 100-continue\r\n", -1),
        (b"content-length: 007\r\n", 7),
        (b"Expect: 100-continue\r\nContent-Length: 0\r\n", 0),
    ],
)
def test_the_length_that_a_head_declares(lines, length):
    assert parse_request_head(START + lines + b"\r\n").declared_length == length


def read_client_headers(fields, line=b"GET / HTTP/1.1", host=b"Host: a:80\r\n"):
    return ClientHeaders(parse_request_head(line + b"\r\n" + host + fields + b"\r\n"))


def test_a_client_s_fields_are_read_by_name_in_any_case_and_in_their_order():
    headers = read_client_headers(b"x-a:  1 \r\nX-AB: 2\r\nX-A: Three, x-a: 4\r\nExpect: 100-continue\r\nX-Empty:\r\n")
    assert headers.get_all(b"X-a") == [b"1", b"Three, x-a: 4"]
    assert headers.get(b"x-A") == b"1"
    assert headers.get(b"X-Empty") == b""
    assert headers.get(b"expect") == b"100-continue"
    assert headers.get(b"x") is None
    assert headers.get_all(b"b") == []


def test_a_client_s_host_is_that_of_its_target_where_this_has_one():
    assert read_client_headers(b"").get(b"HOST") == b"a:80"
    assert read_client_headers(b"", line=b"GET http://b/ HTTP/1.1").get(b"host") == b"b"
    assert read_client_headers(b"", line=b"GET / HTTP/1.0", host=b"").get(b"host") is None


def test_a_client_s_forwarded_fields_are_read_and_what_stops_here_is_not():
    fields = b"X-Forwarded-For: 1\r\nx-forwarded-for: 2\r\nConnection: x-hop, X-Real-Ip\r\nX-Hop: 3\r\nTE: 4\r\n"
    headers = read_client_headers(fields + b"X-Real-Ip: 5\r\n")
    assert headers.get_all(b"x-forwarded-for") == [b"1, 2"]
    assert [headers.get(name) for name in (b"x-forwarded-host", b"x-real-ip", b"x-hop", b"te", b"connection")] == [
        None
    ] * 5


@given(mutated_heads())
def test_a_client_s_fields_are_those_that_go_on(bytes_):
    with contextlib.suppress(ClientProtocolError):
        head = parse_request_head(bytes_)
        headers = head.build_headers()
        for line in headers.lines:
            name = line[: line.index(b":")]
            assert ClientHeaders(head).get_all(name) == headers.get_all(name)


@pytest.mark.parametrize(
    "fields",
    [
        b"X-A: 1\r\nx-a:  2 \r\nX-Empty:\r\n",
        b"X-Forwarded-For: 1\r\nX-A: 2\r\nx-forwarded-for: 3\r\nX-Real-Ip: 4\r\n",
        b"Connection: close, x-a\r\nX-A: 1\r\nKeep-Alive: 5\r\nContent-Length: 0\r\nExpect: 100-continue\r\n",
    ],
)
def test_what_is_listed_of_a_clients_headers_is_what_can_be_read_of_them(fields):
    headers = read_client_headers(fields)
    listed = {}
    for name, value in headers:
        listed.setdefault(name.lower(), []).append(value)
    sent = {line.partition(b":")[0].lower() for line in fields.splitlines()} | {b"host"}
    assert listed == {name: headers.get_all(name) for name in sent if headers.get_all(name)}
    assert headers.items() == list(headers)
    assert headers.items()[0] == (b"Host", b"a:80")


@given(mutated_heads())
def test_a_rewritten_head_differs_only_in_target_and_host(bytes_):
    with contextlib.suppress(ClientProtocolError):
        head = parse_request_head(bytes_)
        for target, authority in ((b"/new?a", b""), (b"", b"b:1"), (b"/new", b"b")):
            rewritten = head.rewrite(target, authority)
            again = parse_request_head(rewritten.outgoing + b"\r\n")
            assert (again.target, again.authority) == (target or head.target, authority or head.authority)
            assert (again.method, again.body, again.upgrade) == (head.method, head.body, head.upgrade)
            assert again.build_headers().lines == head.build_headers().lines == rewritten.build_headers().lines
            assert rewritten.host == parse_host(authority or head.authority)


@given(mutated_heads())
def test_a_head_for_another_host_has_the_fields_of_one_that_is_rendered_whole(bytes_):
    try:
        head = parse_request_head(bytes_)
    except ClientProtocolError:
        return
    lines = split_fields(head.head, without=head.dropped)
    expected = b"".join((render_start(head.method, b"/new", b"b"), *lines, head.framing)).splitlines()
    found = head.rewrite(b"/new", b"b").outgoing.splitlines()
    assert found[:2] == expected[:2]
    assert sorted(found) == sorted(expected)
    assert drop_framing(found, head) == drop_framing(expected, head)


def drop_framing(lines, head):
    """Return the lines without those about framing, which may stand elsewhere."""
    return [line for line in lines if line not in head.framing]


def test_the_values_of_a_few_fields_are_kept_for_who_asks_again():
    head = parse_request_head(START + b"X-A: 1\r\n\r\n")
    assert head.find_values(b"x-a") is head.find_values(b"x-a")
    for number in range(3 * KEPT_NAMES):
        assert head.find_values(b"x-%d" % number) == ()
        assert ClientHeaders(head).get_all(b"X-A") == [b"1"]
    assert len(head._found) <= KEPT_NAMES


def test_a_repeated_head_is_rewritten_once():
    head = parse_request_head(START + b"\r\n")
    assert head.rewrite(b"/a", b"") is head.rewrite(b"/a", b"")
    assert head.rewrite(b"/b", b"").target == b"/b"
