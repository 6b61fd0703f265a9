"""Heads that are made to cost time or memory: the work for a head grows with its size, and no cache keeps long values.

A pattern that backtracks needs days for the heads below, so these tests end by the time-out of tests if one does.
"""

import contextlib
import tracemalloc

import pytest

from maesh_core.errors import ClientProtocolError, UpstreamProtocolError
from maesh_core.proxy.http.messages.chunked import ChunkedError, ChunkedScanner
from maesh_core.proxy.http.messages.head_rules import HeadRules
from maesh_core.proxy.http.messages.request_parsing import parse_request_head
from maesh_core.proxy.http.messages.response_head import parse_response_head

SIZE = 60_000
NAMES = (
    *("Transfer-Encoding", "Content-Length", "Host", "Connection", "Upgrade", "Expect", "TE", "Keep-Alive", "Cookie"),
    *("X-Forwarded-For", "X-Forwarded-", "X_Forwarded_For", "X-Real-Ip", "Forwarded", "Proxy-Connection", "X-Other"),
)
VALUES = {
    "blanks": b" " * SIZE,
    "tabs": b"\t" * SIZE,
    "blanks inside": b"a" + b" " * SIZE + b"b",
    "commas": b"," * SIZE,
    "blanks and commas": b" ,\t" * (SIZE // 3),
    "quotes": b'"' * SIZE,
    "percent": b"%41" * (SIZE // 3),
    "token": b"a" * SIZE,
    "members": b"chunked, " * (SIZE // 9),
}
ENDS = {"CRLF": b"\r\n", "LF": b"\n", "CR": b"\rx\r\n", "fold": b"\r\n x\r\n", "NUL": b"\0\r\n"}
RULES = (HeadRules(), HeadRules(keeps_forwarded=False, drops_shadowing=True, carries_unregistered=True))


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("name", NAMES)
def test_the_work_for_a_head_grows_with_its_size(name, value, end):
    field = name.encode() + b":" + value + end
    for start in (b"GET / HTTP/1.1\r\nHost: a\r\n", b"GET / HTTP/1.1\r\n"):
        for rules in RULES:
            try:
                head = parse_request_head(start + field + b"\r\n", rules)
            except ClientProtocolError:
                continue
            head.client_headers.items()
            head.build_headers().items()
    with contextlib.suppress(UpstreamProtocolError):
        parse_response_head(b"HTTP/1.1 200 OK\r\n" + field + b"\r\n", is_head_request=False)


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize(
    "template",
    [b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n", b"GET http://%b/ HTTP/1.1\r\nHost: a\r\n\r\n", b"%b / HTTP/1.1\r\n\r\n"],
    ids=["target", "authority", "method"],
)
def test_the_work_for_a_request_line_grows_with_its_size(template, value):
    with contextlib.suppress(ClientProtocolError):
        parse_request_head(template % value)


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_the_work_for_a_status_line_grows_with_its_size(value):
    with contextlib.suppress(UpstreamProtocolError):
        parse_response_head(b"HTTP/1.1 200 " + value + b"\0\r\n\r\n", is_head_request=False)


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("template", [b"1;%b\r\n", b"1%b;\r\n", b"1;a=%b\n", b"0\r\nX:%b\n", b"0\r\n%b:\r\n"])
def test_the_work_for_a_line_of_a_chunked_body_grows_with_its_size(template, value):
    with contextlib.suppress(ChunkedError):
        ChunkedScanner().scan(template % value)


def test_long_values_of_peers_are_not_cached():
    requests = [b"GET / HTTP/1.1\r\nHost: %06d%b\r\n\r\n" % (number, b"a" * 30_000) for number in range(300)]
    responses = [
        b"HTTP/1.1 200 %06d%b\r\nConnection: %06d%b\r\n\r\n" % (number, b"r" * 30_000, number, b"c" * 30_000)
        for number in range(300)
    ]
    tracemalloc.start()
    try:
        for request, response in zip(requests, responses, strict=True):
            parse_request_head(request)
            parse_response_head(response, is_head_request=False)
        kept_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept_bytes < 1_000_000
