"""Requests in, redirects out, or nothing for requests that pass."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from maesh_redirect.controller import RedirectBuilder
from maesh_redirect.proxy import RedirectFactory
from maesh_redirect.settings import Redirect

from maesh_core.plugin import ConfigurationError, ObjectKey, PathChange, ServiceNode
from maesh_testing import FakeExchange

HTTPS = {b"X-Forwarded-Proto": b"https"}


def build(**settings):
    return RedirectFactory().build_middleware(Redirect(**settings), "shop/cart")


def ask(target="/a?b=c", *, service_port=80, headers=None, request_host="cart.shop.maesh", method=b"GET", **settings):
    service = f"shop/cart:{service_port}"
    exchange = FakeExchange(method, target.encode(), host=request_host.encode(), headers=headers, service=service)
    return build(**settings).on_request(exchange)


def find_location(*args, **options):
    response = ask(*args, **options)
    ((name, location),) = response.headers
    assert name == b"Location"
    return location.decode()


@pytest.mark.parametrize(
    ("settings", "location"),
    [
        ({}, "http://cart.shop.maesh/a?b=c"),
        ({"scheme": "https"}, "https://cart.shop.maesh/a?b=c"),
        ({"host": "shop.example"}, "http://shop.example/a?b=c"),
        ({"port": 8080}, "http://cart.shop.maesh:8080/a?b=c"),
        ({"port": 80}, "http://cart.shop.maesh/a?b=c"),
        ({"port": 443}, "http://cart.shop.maesh:443/a?b=c"),
        ({"scheme": "https", "port": 443}, "https://cart.shop.maesh/a?b=c"),
        ({"scheme": "https", "port": 80}, "https://cart.shop.maesh:80/a?b=c"),
        ({"scheme": "http", "port": 8080}, "http://cart.shop.maesh:8080/a?b=c"),
        ({"path": PathChange(full="/x")}, "http://cart.shop.maesh/x?b=c"),
        ({"path": PathChange(prefix="/a", replacement="/x")}, "http://cart.shop.maesh/x?b=c"),
        ({"path": PathChange(prefix="/a")}, "http://cart.shop.maesh/?b=c"),
    ],
)
def test_what_is_not_configured_is_that_of_the_request(settings, location):
    assert find_location(**settings) == location


def test_the_port_is_that_of_the_service_unless_a_scheme_is_configured():
    assert find_location(service_port=8080) == "http://cart.shop.maesh:8080/a?b=c"
    assert find_location(service_port=8080, scheme="http") == "http://cart.shop.maesh/a?b=c"
    assert find_location(service_port=8080, scheme="https") == "https://cart.shop.maesh/a?b=c"
    assert find_location(service_port=443) == "http://cart.shop.maesh:443/a?b=c"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_status_is_the_configured_one_and_no_server_is_needed(status):
    response = ask(status=status)
    assert (response.status, response.reason, response.body) == (status, "the request is redirected", None)


@pytest.mark.parametrize(
    ("headers", "location"),
    [
        (HTTPS, "https://cart.shop.maesh/a?b=c"),
        ({**HTTPS, b"X-Forwarded-Port": b"443"}, "https://cart.shop.maesh/a?b=c"),
        ({**HTTPS, b"X-Forwarded-Port": b"8443"}, "https://cart.shop.maesh:8443/a?b=c"),
        ({**HTTPS, b"X-Forwarded-Port": b"evil.example"}, "https://cart.shop.maesh/a?b=c"),
        ({**HTTPS, b"X-Forwarded-Port": b"123456"}, "https://cart.shop.maesh/a?b=c"),
        ({b"X-Forwarded-Proto": b"javascript"}, "http://cart.shop.maesh:8080/a?b=c"),
        ({b"X-Forwarded-Proto": b"http"}, "http://cart.shop.maesh:8080/a?b=c"),
    ],
)
def test_a_trusted_proxy_in_front_may_say_that_its_client_used_https(headers, location):
    assert find_location(service_port=8080, headers=headers) == location


def test_a_request_under_another_prefix_passes():
    assert ask("/ab", path=PathChange(prefix="/a", replacement="/x")) is None


@pytest.mark.parametrize("target", ["/a/../b", "/a//evil.example", "/a/%2e%2e/b", "/a\\b"])
def test_an_ambiguous_path_is_refused_if_its_prefix_is_replaced(target):
    response = ask(target, path=PathChange(prefix="/a"))
    assert (response.status, response.reason) == (403, "the path is ambiguous")
    assert ask(target, path=PathChange(full="/x")).status == 302
    assert ask(target).status == 302


def test_a_service_does_not_redirect_requests_that_are_at_their_new_address():
    new = {"is_of_service": True, "path": PathChange(full="/new")}
    assert find_location("/old", **new) == "http://cart.shop.maesh/new"
    assert ask("/new?a=b", **new) is None
    assert ask("/old", is_of_service=True, host="cart.shop.maesh") is None
    assert ask("/old", is_of_service=True, scheme="http") is None
    assert ask("/old", is_of_service=True, scheme="https", headers=HTTPS) is None
    assert ask("/old", is_of_service=True, scheme="https").status == 302
    assert ask("/new", path=PathChange(full="/new")).status == 302


def test_a_path_never_becomes_a_host():
    assert find_location("//evil.example/") == "http://cart.shop.maesh//evil.example/"
    assert find_location("//evil.example/", request_host="") == "/evil.example/"
    assert find_location("/a", request_host="", scheme="https") == "/a"


def test_a_request_about_the_server_itself_is_redirected_to_the_root():
    assert find_location("*", method=b"OPTIONS") == "http://cart.shop.maesh/"


def test_an_address_of_ipv6_stays_in_brackets():
    assert find_location("/a", request_host="[fd00::1]", service_port=8080) == "http://[fd00::1]:8080/a"


_TARGETS = st.text(alphabet="/.%2eab?=\\:@*", max_size=20).map(lambda text: "/" + text)
_CHANGES = st.sampled_from([None, PathChange(full="/x"), PathChange(prefix="/a", replacement="/x"), PathChange()])


@given(_TARGETS, _CHANGES, st.sampled_from(["", "https"]), st.booleans())
def test_a_location_always_has_the_host_of_the_request(target, path, scheme, is_of_service):
    response = ask(target, path=path, scheme=scheme, is_of_service=is_of_service)
    if response is not None and response.status == 302:
        expected = f"{scheme or 'http'}://cart.shop.maesh/"
        assert response.headers[0][1].startswith(expected.encode())


_NAMES = st.sampled_from(["redirect-scheme", "redirect-host", "redirect-port", "redirect-path", "redirect-prefix"])
_VALUES = st.sampled_from(["https", "a.example", "8080", "/", "/a", "/x/", "//b", "a.example\r\nX: y"])


@given(st.dictionaries(_NAMES, _VALUES | st.text(alphabet="/a.\r\n:@", max_size=6), min_size=1), _TARGETS)
def test_what_a_controller_accepts_gives_an_address_of_one_host_and_one_line(annotations, target):
    service = ServiceNode(key=ObjectKey("shop", "cart"), traffic_type="http")
    with contextlib.suppress(ConfigurationError):
        settings = RedirectBuilder().build_settings(annotations, service)
        exchange = FakeExchange(target=target.encode(), host=b"cart.shop.maesh", service="shop/cart:80")
        response = RedirectFactory().build_middleware(settings, "shop/cart").on_request(exchange)
        if response is not None and response.status == 302:
            scheme, _, rest = response.headers[0][1].partition(b"://")
            host, _, port = rest.partition(b"/")[0].partition(b":")
            assert scheme in (b"http", b"https")
            assert host == (annotations.get("redirect-host", "cart.shop.maesh")).encode()
            assert port.decode() in ("", annotations.get("redirect-port"))
            assert not {13, 10} & set(rest)
