"""The parts of a request and of a redirect in, an address out."""

import pytest
from maesh_redirect.locations import Locator, build_location, find_origin
from maesh_redirect.settings import Redirect

from maesh_core.plugin import PathChange


def find(headers):
    return find_origin(b"8080", headers)


@pytest.mark.parametrize(
    ("parts", "location"),
    [
        ((b"http", b"a", b"80", b"/x"), b"http://a/x"),
        ((b"http", b"a", b"443", b"/x"), b"http://a:443/x"),
        ((b"https", b"a", b"443", b"/x?y"), b"https://a/x?y"),
        ((b"https", b"[fd00::1]", b"80", b"/"), b"https://[fd00::1]:80/"),
        ((b"http", b"", b"80", b"//evil.example"), b"/evil.example"),
    ],
)
def test_an_address_omits_the_port_of_its_scheme(parts, location):
    assert build_location(*parts) == location


def test_the_scheme_of_a_request_is_http_unless_a_trusted_proxy_says_https():
    assert find({}) == (b"http", b"8080")
    assert find({b"x-forwarded-proto": b"https"}) == (b"https", b"443")
    assert find({b"x-forwarded-proto": b"https", b"x-forwarded-port": b"1"}) == (b"https", b"1")


def test_only_a_replaced_prefix_makes_an_ambiguous_path_a_problem():
    assert Locator(Redirect(path=PathChange(prefix="/a"))).refuses(b"/a/../b")
    assert not Locator(Redirect(path=PathChange(prefix="/a"))).refuses(b"/a/b?..//")
    assert not Locator(Redirect(path=PathChange(full="/a"))).refuses(b"/a/../b")
    assert not Locator(Redirect()).refuses(b"/a/../b")
