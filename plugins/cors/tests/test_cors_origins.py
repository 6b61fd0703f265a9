"""Allowed origins and the origin of a page in, a decision out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from maesh_cors.origins import AllowedOrigins, is_origin


def allows(allowed, origin):
    return AllowedOrigins([allowed]).allows(origin.encode())


@pytest.mark.parametrize(
    ("allowed", "origin"),
    [
        ("https://shop.example", "https://shop.example"),
        ("https://shop.example", "https://shop.example:443"),
        ("https://shop.example:443", "https://shop.example"),
        ("http://shop.example:80", "http://shop.example"),
        ("https://Shop.Example", "HTTPS://shop.example"),
        ("https://shop.example:8443", "https://shop.example:8443"),
        ("https://*.shop.example", "https://a.shop.example"),
        ("https://*.shop.example", "https://a.b.shop.example"),
        ("https://*.shop.example:8443", "https://a.shop.example:8443"),
        ("https://*", "https://anything.example"),
        ("https://*", "https://[fd00::1]"),
        ("http://*:8080", "http://10.0.0.1:8080"),
        ("*", "https://shop.example"),
        ("*", "null"),
        ("*", "file://"),
    ],
)
def test_an_origin_is_allowed_by_its_scheme_host_and_port(allowed, origin):
    assert allows(allowed, origin)


@pytest.mark.parametrize(
    ("allowed", "origin"),
    [
        ("https://shop.example", "http://shop.example"),
        ("https://shop.example", "https://shop.example:8443"),
        ("https://shop.example", "https://shop.example.evil.example"),
        ("https://shop.example", "https://evil-shop.example"),
        ("https://shop.example", "https://shop.example/"),
        ("https://shop.example", "https://shop.example\n"),
        ("https://shop.example", "https://user@shop.example"),
        ("https://shop.example", "null"),
        ("https://shop.example", ""),
        ("https://shop.example", "https://shopXexample"),
        ("https://*.shop.example", "https://shop.example"),
        ("https://*.shop.example", "https://.shop.example"),
        ("https://*.shop.example", "https://evilshop.example"),
        ("https://*.shop.example", "https://evil.example/.shop.example"),
        ("https://*.shop.example", "https://evil.example?.shop.example"),
        ("https://*.shop.example", "https://evil.example#.shop.example"),
        ("https://*.shop.example", "https://a.shop.example:8443"),
        ("https://*.shop.example", "http://a.shop.example"),
        ("https://*", "null"),
        ("https://*", "http://shop.example"),
        ("https://*", "https://shop.example:8443"),
        ("https://*", "https://"),
    ],
)
def test_any_other_origin_is_not(allowed, origin):
    assert not allows(allowed, origin)


def test_one_of_several_origins_is_enough_and_none_allows_nothing():
    allowed = AllowedOrigins(["https://a.example", "https://*.b.example", "http://*:81"])
    assert [allowed.allows(each) for each in (b"https://a.example", b"https://x.b.example", b"http://c:81")] == [
        True
    ] * 3
    assert not allowed.allows(b"https://b.example")
    assert not AllowedOrigins([]).allows(b"https://a.example")


@pytest.mark.parametrize(
    "text",
    ["https://shop.example", "http://a", "https://*.a-b.example:65535", "http://*", "https://*:1", "http://10.0.0.1"],
)
def test_what_the_gateway_api_allows_is_an_origin(text):
    assert is_origin(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "*",
        "shop.example",
        "ftp://a",
        "https://",
        "https://a/",
        "https://a:0",
        "https://a:65536",
        "https://a.*",
        "null",
    ],
)
def test_text_that_is_no_scheme_with_a_host_is_no_origin(text):
    assert not is_origin(text)


_HOSTS = st.from_regex(r"[a-z0-9]{1,3}(\.[a-z0-9]{1,3}){0,3}", fullmatch=True)
_PORTS = st.sampled_from(["", ":80", ":443", ":8080"])
_SCHEMES = st.sampled_from(["http", "https"])


@given(_SCHEMES, _HOSTS, _PORTS)
def test_an_origin_allows_itself_and_no_other_host(scheme, host, port):
    origin = f"{scheme}://{host}{port}"
    assert is_origin(origin)
    assert allows(origin, origin)
    assert allows(f"{scheme}://*.{host}{port}", f"{scheme}://x.{host}{port}")
    assert not allows(origin, f"{scheme}://x{host}{port}")
    assert not allows(f"{scheme}://*.{host}{port}", f"{scheme}://x{host}{port}")


@given(st.text(), st.binary())
def test_any_text_is_refused_or_compared(text, origin):
    if not is_origin(text):
        assert not AllowedOrigins([text]).allows(b"https://shop.example") or text == "*"
    AllowedOrigins([text]).allows(origin)
