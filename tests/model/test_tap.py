"""The filter of a tap, and what a tap shows of a record."""

import re
from typing import Any

import msgspec
import pytest

from maesh_core.model.tap import (
    LINE_LIMIT_BYTES,
    METHOD_FORM,
    PATH_FORM,
    PATH_LIMIT,
    SERVICE_FORM,
    SOURCE_FORM,
    STATUS_FORM,
    TEXT_LIMIT,
    TapFilter,
    TappedRecord,
    build_tapped,
    compile_filter,
    compile_path,
    cut_texts,
    parse_filter,
    parse_statuses,
    read_path,
)
from maesh_core.model.traffic_record import HTTP, TCP, TrafficRecord
from maesh_core.model.traffic_record import build_record as build_any_record


def build_record(kind: str = HTTP, **changes: Any) -> TrafficRecord:
    fields: dict[str, Any] = {
        "started_at": 1000.5,
        "duration_s": 0.25,
        "client": "10.0.0.1",
        "entrypoint": 5000,
        "protocol": "HTTP/1.1",
        "service": "shop/web:80",
        "status": 200,
        "method": b"GET",
        "host": b"web.shop.maesh",
        "target": b"/cart/items?key=secret",
    }
    return build_any_record(kind, **{**fields, **changes})


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, True),
        ({"service": "shop/web"}, True),
        ({"service": "shop/web:80"}, True),
        ({"service": "shop/web:8"}, False),
        ({"service": "shop/we"}, False),
        ({"method": "GET"}, True),
        ({"method": "get"}, False),
        ({"path": "/cart"}, True),
        ({"path": "/cart/items"}, True),
        ({"path": "/items"}, False),
        ({"path": "*/items"}, True),
        ({"path": "/cart*key*"}, False),
        ({"status": "2xx"}, True),
        ({"status": "200"}, True),
        ({"status": "404,200-204"}, True),
        ({"status": "5xx,201"}, False),
        ({"source": "10.0.0.1"}, True),
        ({"source": "::ffff:10.0.0.2"}, False),
        ({"service": "shop/web", "method": "GET", "path": "/c", "status": "2xx", "source": "10.0.0.1"}, True),
        ({"service": "shop/web", "method": "PUT", "path": "/c", "status": "2xx", "source": "10.0.0.1"}, False),
    ],
)
def test_a_record_is_shown_if_it_has_everything_that_the_filter_names(
    parameters: dict[str, str], expected: bool
) -> None:
    assert compile_filter(parse_filter(parameters))(build_record()) is expected


def test_records_without_http_pass_filters_of_service_and_source_only() -> None:
    record = build_record(TCP, method=b"", target=b"", status=0)
    for parameters, expected in (
        ({"service": "shop/web", "source": "10.0.0.1"}, True),
        ({"method": "GET"}, False),
        ({"path": "/"}, False),
        ({"status": "2xx"}, False),
    ):
        assert compile_filter(parse_filter(parameters))(record) is expected


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("/a", "/ab", True),
        ("/a", "/b", False),
        ("/a*", "/a", True),
        ("*", "", True),
        ("/a*b", "/ab", True),
        ("/a*b", "/a/x/b", True),
        ("/a*b", "/a/x/bc", False),
        ("/ab*ba", "/aba", False),
        ("*x*y*", "/x/y/z", True),
        ("*x*y*", "/y/x", False),
        ("**", "/any", True),
        ("/a*b*b", "/abb", True),
        ("/a*b*b", "/ab", False),
        ("/a[b]*", "/a[b]/c", True),
    ],
)
def test_a_path_is_a_beginning_or_a_pattern(pattern: str, path: str, expected: bool) -> None:
    assert compile_path(pattern)(path) is expected


def test_an_address_in_any_notation_is_compared_in_its_canonical_form() -> None:
    assert parse_filter({"source": "FD00:0::1"}) == TapFilter(source="fd00::1")


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"service": "web"}, SERVICE_FORM),
        ({"service": "shop/web:0"}, SERVICE_FORM),
        ({"service": "shop/web\n"}, SERVICE_FORM),
        ({"method": "GET POST"}, METHOD_FORM),
        ({"path": "cart"}, PATH_FORM),
        ({"path": "/" * (PATH_LIMIT + 1)}, PATH_FORM),
        ({"status": "6"}, STATUS_FORM),
        ({"status": "500-400"}, STATUS_FORM),
        ({"status": "5xx,"}, STATUS_FORM),
        ({"status": ",".join(["200"] * 11)}, STATUS_FORM),
        ({"source": "web-0"}, SOURCE_FORM),
        ({"pathh": "/"}, "unknown parameter 'pathh'; the parameters are service, method, path, status, source"),
    ],
)
def test_invalid_parameters_are_refused_with_their_form(parameters: dict[str, str], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        parse_filter(parameters)


def test_statuses_are_ranges() -> None:
    assert parse_statuses("404, 5xx,300-399") == ((404, 404), (500, 599), (300, 399))
    assert parse_statuses("") == ()


def test_what_is_shown_is_decoded_and_cut_and_has_no_query() -> None:
    shown = build_tapped(build_record(method=b"G\xff", target=b"/" + b"\xe2\x82\xac" * 5000 + b"?q", reason="r" * 999))
    assert shown.method == "G\ufffd"
    assert shown.path == "/" + "\u20ac" * (PATH_LIMIT - 1)
    assert len(shown.reason) == 256
    assert len(msgspec.json.encode(shown)) < LINE_LIMIT_BYTES
    assert msgspec.json.decode(msgspec.json.encode(shown), type=TappedRecord) == shown


def test_the_json_has_the_fields_of_a_record_in_camel_case() -> None:
    shown = msgspec.json.decode(msgspec.json.encode(build_tapped(build_record(grpc_status=5, upstream_s=0.2))))
    assert shown == {
        "kind": "http",
        "startedAt": 1000.5,
        "serverPath": "",
        "serverNode": "",
        "wouldDeny": "",
        "durationS": 0.25,
        "client": "10.0.0.1",
        "source": "",
        "entrypoint": 5000,
        "protocol": "HTTP/1.1",
        "service": "shop/web:80",
        "destination": "",
        "server": "",
        "attempts": 0,
        "status": 200,
        "grpcStatus": 5,
        "reason": "",
        "receivedBytes": 0,
        "sentBytes": 0,
        "upstreamS": 0.2,
        "method": "GET",
        "host": "web.shop.maesh",
        "path": "/cart/items",
    }


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"http://web.shop.maesh/a?b", "/a"),
        (b"http://web.shop.maesh?b", "/"),
        (b"*", "*"),
        (b"web:80", "web:80"),
        (b"", ""),
    ],
)
def test_a_path_is_read_from_every_form_of_a_target(target: bytes, path: str) -> None:
    assert read_path(target) == path


def test_a_record_with_all_texts_at_their_limits_is_shorter_than_a_line() -> None:
    names = [field.name for field in msgspec.structs.fields(TappedRecord) if field.type is str]
    long = TappedRecord(started_at=1e9 / 3, duration_s=1e9 / 3, **dict.fromkeys(names, "\x01" * 9999))  # type: ignore[arg-type]
    cut = cut_texts(long)
    assert {name: len(getattr(cut, name)) for name in names} == {**dict.fromkeys(names, TEXT_LIMIT), "path": PATH_LIMIT}
    assert len(msgspec.json.encode(cut)) < LINE_LIMIT_BYTES
    assert cut_texts(cut) is cut
