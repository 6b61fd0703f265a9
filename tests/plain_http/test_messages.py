"""Bytes become requests, and responses become bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.plain_http.messages import Request, RequestLimits, RequestReader, Response

HOST = b"Host: h\r\n"
LIMITS = RequestLimits(head_bytes=200, fields=4)


def read(*parts: bytes) -> list[Request]:
    reader = RequestReader(LIMITS, remote="10.0.0.1")
    for part in parts:
        reader.feed(part)
    reader.release()
    return list(reader.requests)


def test_a_request_has_what_was_sent_with_names_in_lower_case() -> None:
    assert read(b"GET /a?b HTTP/1.1\r\nHOST: h\r\nX-A: B\r\nx-a:c\r\n\r\n") == [
        Request(
            method=b"GET",
            target=b"/a?b",
            fields=[(b"host", b"h"), (b"x-a", b"B"), (b"x-a", b"c")],
            remote="10.0.0.1",
            is_last=False,
            can_chunk=True,
        )
    ]


@pytest.mark.parametrize(
    ("sent", "is_last"),
    [
        (b"GET / HTTP/1.1\r\n" + HOST + b"\r\n", False),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n", True),
        (b"GET / HTTP/1.0\r\n\r\n", True),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n", True),
        (b"CONNECT h:1 HTTP/1.1\r\n" + HOST + b"\r\n", True),
    ],
)
def test_a_connection_goes_on_as_the_request_says(sent: bytes, is_last: bool) -> None:
    (request,) = read(sent)
    assert (request.refusal, request.is_last) == (0, is_last)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"bad header\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET / HTTP/7.3\r\n" + HOST + b"\r\n", 400),
        (b"\x16\x03\x01\x02\x00", 400),
        (b"GET /" + b"x" * 200 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"x" * 200 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n" * 4 + b"\r\n", 431),
        (b"GET /" + b"x" * 300, 431),
        (b"\r\n" * 101, 431),
    ],
)
@pytest.mark.parametrize("is_in_pieces", [False, True])
def test_what_is_no_request_or_too_large_is_one_refusal(sent: bytes, status: int, is_in_pieces: bool) -> None:
    parts = [sent[at : at + 1] for at in range(len(sent))] if is_in_pieces else [sent]
    (refused,) = read(*parts)
    assert (refused.refusal, refused.is_last) == (status, True)
    assert refused.reason


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 10\r\n\r\n" + b"x" * 10,
        b"Content-Length: 10\r\n\r\nx",
        b"Content-Length: 99999999\r\nExpect: 100-continue\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: y\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_a_request_with_a_body_is_the_last_and_its_body_is_not_read(body: bytes) -> None:
    (request,) = read(b"POST / HTTP/1.1\r\n" + HOST + body, b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
    assert (request.method, request.is_last, request.is_unread, request.refusal) == (b"POST", True, True, 0)


def test_before_a_refusal_come_the_requests_that_made_sense() -> None:
    good = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
    assert [each.refusal for each in read(good + good + b"nonsense\r\n" + good)] == [0, 0, 400]


@pytest.mark.parametrize("target", [b"http://node:80/ping?a=b://c", b"HTTPS://n/ping?a=b://c", b"/ping?a=b://c"])
def test_a_target_in_absolute_form_is_cut_down_to_its_path(target: bytes) -> None:
    assert read(b"GET " + target + b" HTTP/1.0\r\n\r\n")[0].target == b"/ping?a=b://c"


@given(st.lists(st.binary(max_size=40) | st.sampled_from([b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", b"\r\n", b"POST "])))
def test_whatever_comes_only_the_last_is_a_refusal(parts: list[bytes]) -> None:
    assert all(request.refusal == 0 for request in read(*parts)[:-1])


@pytest.mark.parametrize(
    ("response", "options", "rendered"),
    [
        (Response(status=200, body=b"x"), {}, b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"),
        (Response(status=200, body=b"x"), {"is_head": True}, b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"),
        (Response(status=304, fields=[(b"A", b"b")], body=b"x"), {}, b"HTTP/1.1 304 Not Modified\r\nA: b\r\n\r\n"),
        (
            Response(status=599),
            {"is_last": True},
            b"HTTP/1.1 599 \r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        ),
    ],
)
def test_a_response_is_rendered(response: Response, options: dict[str, bool], rendered: bytes) -> None:
    assert response.render(**options) == rendered


BODY_LIMITS = RequestLimits(head_bytes=200, fields=4, body_bytes={b"/in": 10})


def read_bodies(*parts: bytes) -> list[Request]:
    reader = RequestReader(BODY_LIMITS)
    for part in parts:
        reader.feed(part)
    reader.release()
    return list(reader.requests)


def build_post(body: bytes, target: bytes = b"/in", method: bytes = b"POST", *, is_chunked: bool = False) -> bytes:
    framing = b"Transfer-Encoding: chunked" if is_chunked else b"Content-Length: %d" % len(body)
    content = b"".join(b"1\r\n%c\r\n" % each for each in body) + b"0\r\n\r\n" if is_chunked else body
    return b"%b %b HTTP/1.1\r\n%b%b\r\n\r\n%b" % (method, target, HOST, framing, content)


@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize("body", [b"x", b"0123456789"])
def test_a_body_is_read_for_a_path_with_a_limit_and_the_connection_goes_on(body: bytes, *, is_chunked: bool) -> None:
    sent = build_post(body, b"/in?a", is_chunked=is_chunked) + b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
    for position in range(len(sent)):
        first, second = read_bodies(sent[:position], sent[position:])
        assert (first.method, first.target, first.body) == (b"POST", b"/in?a", body)
        assert (first.is_last, first.is_unread, first.refusal) == (False, False, 0)
        assert (second.method, second.body) == (b"GET", b"")


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_over_the_limit_is_refused(*, is_chunked: bool) -> None:
    sent = build_post(b"01234567890", is_chunked=is_chunked)
    for parts in ((sent,), [sent[index : index + 1] for index in range(len(sent))]):
        (request,) = read_bodies(*parts, build_post(b"x"))
        assert (request.refusal, request.is_unread) == (413, True)


def test_a_body_that_is_announced_as_too_large_is_refused_before_it_comes() -> None:
    (request,) = read_bodies(b"POST /in HTTP/1.1\r\n" + HOST + b"Content-Length: 11\r\n\r\n")
    assert request.refusal == 413


@pytest.mark.parametrize(
    "sent",
    [
        build_post(b"x", b"/other"),
        build_post(b"x", method=b"PUT"),
        build_post(b"x", b"/in/"),
        build_post(b"x", b"/%69n"),
    ],
)
def test_other_bodies_are_not_read(sent: bytes) -> None:
    (request,) = read_bodies(sent, build_post(b"x"))
    assert (request.body, request.is_unread, request.is_last) == (b"", True, True)


def test_a_post_without_a_body_has_an_empty_one() -> None:
    (request,) = read_bodies(build_post(b""))
    assert (request.body, request.is_unread, request.is_last) == (b"", False, False)


def test_a_post_that_ends_its_connection_is_read_to_the_end() -> None:
    sent = b"POST /in HTTP/1.1\r\n" + HOST + b"Connection: close\r\nContent-Length: 2\r\n\r\nab"
    (request,) = read_bodies(sent[:-1], sent[-1:] + build_post(b"x"))
    assert (request.body, request.is_last, request.is_unread) == (b"ab", True, False)


def test_a_body_without_its_end_is_no_request() -> None:
    assert read_bodies(build_post(b"xy")[:-1]) == []


@given(
    parts=st.lists(
        st.sampled_from(
            [build_post(b"ab"), build_post(b"ab", is_chunked=True), b"POST /in", b"\r\n\r\n", b"0\r\n", b"x"]
        )
    )
)
def test_whatever_comes_a_body_is_within_its_limit(parts: list[bytes]) -> None:
    assert all(len(request.body) <= 10 for request in read_bodies(*parts))
