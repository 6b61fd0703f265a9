"""Statuses, time-outs and messages of gRPC, as its documents define them."""

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.plugin_system.interfaces import Response
from maesh_core.proxy.http import grpc as mesh_grpc
from maesh_core.proxy.http.grpc import (
    NOT_KNOWN_YET,
    build_answer_fields,
    encode_message,
    find_answer_status,
    find_ended_status,
    find_http_status,
    find_reset_status,
    find_timeout,
    is_call,
    read_head_status,
    read_status,
)
from maesh_core.proxy.http.messages.request_head import STREAMED
from maesh_core.proxy.http.messages.response_head import parse_response_head

NUMBERS = {
    "OK": 0,
    "CANCELLED": 1,
    "UNKNOWN": 2,
    "DEADLINE_EXCEEDED": 4,
    "PERMISSION_DENIED": 7,
    "RESOURCE_EXHAUSTED": 8,
    "UNIMPLEMENTED": 12,
    "INTERNAL": 13,
    "UNAVAILABLE": 14,
    "UNAUTHENTICATED": 16,
}


def test_the_numbers_of_statuses_are_those_of_the_protocol():
    assert {name: getattr(mesh_grpc, name) for name in NUMBERS} == NUMBERS


def test_the_numbers_are_those_of_grpcio():
    grpcio = pytest.importorskip("grpc", reason="grpcio is not installed: make grpc")
    numbers = {code.name: code.value[0] for code in grpcio.StatusCode}
    assert {name: numbers[name] for name in NUMBERS} == NUMBERS
    assert sorted(numbers.values()) == list(range(17))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"application/grpc", True),
        (b"application/grpc+proto", True),
        (b"application/grpc+json; charset=utf-8", True),
        (b"application/grpc;a=b", True),
        (b"application/grpc ; a=b", True),
        (b"application/grpc-web", False),
        (b"application/grpc-web+proto", False),
        (b"application/grpcs", False),
        (b"text/application/grpc", False),
        (b"", False),
    ],
)
def test_a_call_is_recognized_by_its_content_type(value, expected):
    assert is_call(((b":method", b"POST"), (b"content-type", value))) is expected


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"1H", 3600.0),
        (b"2M", 120.0),
        (b"3S", 3.0),
        (b"250m", 0.25),
        (b"1000u", 0.001),
        (b"99999999n", 0.099999999),
        (b"00000001S", 1.0),
        (b"99999999H", 0.0),  # longer than any other limit
        (b"0S", 0.0),
        (b"123456789n", 0.0),
        (b"1", 0.0),
        (b"S", 0.0),
        (b"1s", 0.0),
        (b"-1S", 0.0),
        (b"1.5S", 0.0),
        (b" 1S", 0.0),
        (b"", 0.0),
    ],
)
def test_a_timeout_is_read_and_a_malformed_one_is_ignored(value, seconds):
    assert find_timeout(((b"grpc-timeout", value),)) == pytest.approx(seconds)


def test_a_repeated_timeout_and_a_missing_one_are_none():
    assert find_timeout(((b"grpc-timeout", b"1S"), (b"grpc-timeout", b"2S"))) == 0.0
    assert find_timeout(((b"te", b"trailers"),)) == 0.0


@pytest.mark.parametrize(
    ("http", "name"),
    [
        (400, "INTERNAL"),
        (401, "UNAUTHENTICATED"),
        (403, "PERMISSION_DENIED"),
        (404, "UNIMPLEMENTED"),
        (408, "DEADLINE_EXCEEDED"),
        (413, "RESOURCE_EXHAUSTED"),
        (417, "UNKNOWN"),
        (429, "RESOURCE_EXHAUSTED"),
        (431, "RESOURCE_EXHAUSTED"),
        (499, "CANCELLED"),
        (500, "INTERNAL"),
        (501, "UNIMPLEMENTED"),
        (502, "UNAVAILABLE"),
        (503, "UNAVAILABLE"),
        (504, "DEADLINE_EXCEEDED"),
        (200, "UNKNOWN"),
    ],
)
def test_each_answer_of_the_mesh_has_a_status(http, name):
    assert find_answer_status(Response(status=http, reason="")) == NUMBERS[name]


@pytest.mark.parametrize(
    ("http", "name"),
    [
        (400, "INTERNAL"),
        (401, "UNAUTHENTICATED"),
        (403, "PERMISSION_DENIED"),
        (404, "UNIMPLEMENTED"),
        (429, "UNAVAILABLE"),
        (500, "UNKNOWN"),
        (502, "UNAVAILABLE"),
        (503, "UNAVAILABLE"),
        (504, "UNAVAILABLE"),
        (200, "UNKNOWN"),
        (499, "CANCELLED"),
    ],
)
def test_a_response_without_a_status_has_the_one_that_clients_give_it(http, name):
    assert find_ended_status(http) == NUMBERS[name]


@pytest.mark.parametrize(
    ("code", "name"),
    [(0x2, "INTERNAL"), (0x7, "UNAVAILABLE"), (0x8, "CANCELLED"), (0xB, "RESOURCE_EXHAUSTED"), (0x1, "INTERNAL")],
)
def test_a_reset_has_the_status_that_clients_give_it(code, name):
    assert find_reset_status(code) == NUMBERS[name]


def test_each_status_has_the_http_status_of_google_rpc():
    expected = [200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401]
    assert [find_http_status(number) for number in range(17)] == expected
    assert find_http_status(17) == find_http_status(-1) == 500


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (b"grpc-status: 0\r\n", 0),
        (b"x-a: 1\r\nGrpc-Status:14 \r\ngrpc-message: x\r\n", 14),
        (b"HTTP/1.1 200 OK\r\ngrpc-status: 5\r\n\r\n", 5),
        (b"grpc-status: 17\r\n", 2),
        (b"grpc-status: 99999999999\r\n", 2),
        (b"grpc-status: -1\r\n", 2),
        (b"grpc-status: x\r\n", 2),
        (b"x-grpc-status: 0\r\n", 2),
        (b"", 2),
    ],
)
def test_a_status_is_read_from_lines_and_what_the_protocol_does_not_know_is_unknown(lines, status):
    assert read_status(lines) == status


@pytest.mark.parametrize(
    ("text", "left", "status"),
    [
        (b"HTTP/1.1 200 OK\r\ngrpc-status: 14\r\nContent-Length: 0\r\n\r\n", 0, 14),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0, 2),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", STREAMED, NOT_KNOWN_YET),
        (b"HTTP/1.1 200 OK\r\ngrpc-status: 0\r\nTransfer-Encoding: chunked\r\n\r\n", STREAMED, NOT_KNOWN_YET),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 3\r\n\r\n", STREAMED, 14),
        (b"HTTP/1.1 503 Busy\r\ngrpc-status: 8\r\nContent-Length: 0\r\n\r\n", 0, 8),
    ],
)
def test_a_head_has_the_status_if_nothing_follows_it_or_the_response_is_an_error(text, left, status):
    head = parse_response_head(text, is_head_request=False)
    head.left = left
    assert read_head_status(head) == status


# --- answers


def test_an_answer_keeps_its_reason_and_its_fields_but_not_its_body():
    answer = Response(
        status=429,
        reason="more than 5 requests",
        headers=((b"Retry-After", b"3"), (b"Content-Type", b"application/json")),
        body=b"{}",
    )
    assert build_answer_fields(answer) == (
        (b":status", b"200"),
        (b"content-type", b"application/grpc"),
        (b"grpc-status", b"8"),
        (b"grpc-message", b"more than 5 requests"),
        (b"x-maesh-reason", b"more than 5 requests"),
        (b"retry-after", b"3"),
    )


def test_an_answer_may_have_a_status_and_a_message_of_its_own():
    answer = Response(status=403, reason="no", headers=((b"Grpc-Status", b"16"), (b"Grpc-Message", b"who are you")))
    fields = build_answer_fields(answer)
    assert [value for name, value in fields if name == b"grpc-status"] == [b"16"]
    assert [value for name, value in fields if name == b"grpc-message"] == [b"who are you"]
    assert find_answer_status(answer) == 16


@pytest.mark.parametrize(
    "answer",
    [
        Response(status=99, reason=""),
        Response(status=600, reason=""),
        Response(status=500, reason="a\0b"),
        Response(status=500, reason="", headers=((b"a b", b""),)),
        Response(status=500, reason="", headers=((b"a", b"b\r\nc: d"),)),
        Response(status=500, reason="", headers=((b"Content-Length", b"3"),)),
    ],
)
def test_an_invalid_answer_is_refused(answer):
    with pytest.raises(ValueError):
        build_answer_fields(answer)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('plain, with "quotes" and ~', b'plain, with "quotes" and ~'),
        ("100 %", b"100 %25"),
        (" edges ", b"%20edges%20"),
        ("a\r\nb", b"a%0D%0Ab"),
        ("é", b"%C3%A9"),
        ("", b""),
    ],
)
def test_a_message_is_percent_encoded(text, message):
    assert encode_message(text) == message


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_a_decoded_message_is_the_text(text):
    encoded = encode_message(text)
    assert unquote(encoded.decode("ascii")) == text
    assert encoded == encoded.strip()
