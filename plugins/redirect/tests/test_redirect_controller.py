"""Annotations or a filter in, a redirect or an error out."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from maesh_redirect.controller import RedirectBuilder
from maesh_redirect.settings import Redirect

from maesh_core.plugin import (
    ConfigurationError,
    FilterRequest,
    HttpMatch,
    ObjectKey,
    PathChange,
    PortNode,
    ServiceNode,
)

SERVICE = ServiceNode(key=ObjectKey("shop", "cart"), traffic_type="http")
BUILDER = RedirectBuilder()
NAMES = ("scheme", "host", "port", "path", "prefix", "status")


def send(built):
    """Return what the proxy would get."""
    return built and msgspec.convert(msgspec.json.decode(msgspec.json.encode(built)), Redirect)


def build(**annotations):
    return send(BUILDER.build_settings({f"redirect-{name}": text for name, text in annotations.items()}, SERVICE))


def build_filter(value, *, prefix="/old", count=1):
    matches = (HttpMatch(path_prefix=prefix),)
    request = FilterRequest(name="RequestRedirect", value=value, matches=matches, port=PortNode(number=80))
    return send(BUILDER.build_filter([request] * count, SERVICE))


def test_a_service_without_the_annotations_has_no_redirect():
    assert build() is None


def test_annotations_become_the_redirect_of_a_service():
    found = build(scheme="https", host="shop.example", port="8443", path="/new", prefix="/old", status="308")
    path = PathChange(prefix="/old", replacement="/new")
    expected = Redirect(status=308, scheme="https", host="shop.example", port=8443, path=path, is_of_service=True)
    assert found == expected
    assert build(scheme="https") == Redirect(scheme="https", is_of_service=True)


@pytest.mark.parametrize(
    ("name", "text", "rule"),
    [
        ("scheme", "ftp", "is not one of http, https"),
        ("scheme", "javascript", "is not one of http, https"),
        ("scheme", "", "is not one of http, https"),
        ("host", "", "is not a host name in lower case"),
        ("host", "Shop.example", "is not a host name in lower case"),
        ("host", "shop.example:80", "is not a host name in lower case"),
        ("host", "shop.example/x", "is not a host name in lower case"),
        ("host", "user@shop.example", "is not a host name in lower case"),
        ("host", "shop.example\r\nX: y", "is not a host name in lower case"),
        ("host", "a" * 254, "is not a host name in lower case"),
        ("port", "0", "is not a whole number from 1 to 65535"),
        ("port", "http", "is not a whole number from 1 to 65535"),
        ("path", "new", "is not a path that starts with /"),
        ("path", "//evil.example", "is not a path that starts with /"),
        ("prefix", "/a/../b", "is not a path that starts with /"),
        ("status", "304", "is not one of 301, 302, 303, 307, 308"),
        ("status", "200", "is not one of 301, 302, 303, 307, 308"),
    ],
)
def test_a_bad_annotation_is_an_error_that_names_it_and_the_rule(name, text, rule):
    with pytest.raises(ConfigurationError) as caught:
        build(**{name: text})
    assert str(caught.value).startswith(f"annotation redirect-{name}: ")
    assert rule in str(caught.value)


def test_a_status_alone_is_an_error_because_it_redirects_nowhere():
    with pytest.raises(ConfigurationError, match="redirect-status: '301' has no effect without another annotation"):
        build(status="301")


def test_a_filter_becomes_the_redirect_of_a_rule():
    value = {
        "scheme": "https",
        "hostname": "shop.example",
        "port": 8443,
        "statusCode": 301,
        "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/new/"},
    }
    path = PathChange(prefix="/old", replacement="/new")
    assert build_filter(value) == Redirect(status=301, scheme="https", host="shop.example", port=8443, path=path)
    assert build_filter({}) == Redirect()
    assert build_filter({"path": {"type": "ReplaceFullPath", "replaceFullPath": "/x"}}).path == PathChange(full="/x")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"scheme": "ftp"}, "scheme: 'ftp' is not http or https"),
        ({"scheme": ""}, "scheme: '' is not http or https"),
        ({"hostname": "evil.example/"}, "hostname: 'evil.example/' is not a host name"),
        ({"hostname": ""}, "hostname: '' is not a host name"),
        ({"port": 0}, "port: 0 is not a port from 1 to 65535"),
        ({"port": 65536}, "port: 65536 is not a port from 1 to 65535"),
        ({"statusCode": 304}, "statusCode: 304 is not one of 301, 302, 303, 307, 308"),
        ({"path": {"type": "Regex"}}, "path.type: 'Regex' is not ReplaceFullPath or ReplacePrefixMatch"),
        ({"path": {}}, "path.type: '' is not ReplaceFullPath or ReplacePrefixMatch"),
        ({"path": {"type": "ReplaceFullPath", "replaceFullPath": "//x"}}, "path.replaceFullPath: '//x' is not a path"),
        ({"statuscode": 301}, "statuscode: unknown field; did you mean statusCode?"),
        ({"port": "80"}, "port: "),
    ],
)
def test_a_filter_that_cannot_be_applied_completely_is_an_error(value, text):
    with pytest.raises(ConfigurationError) as caught:
        build_filter(value)
    assert str(caught.value).startswith(f"RequestRedirect: {text}")


def test_a_rule_has_only_one_redirect():
    with pytest.raises(ConfigurationError, match="RequestRedirect: a rule may have only one"):
        build_filter({}, count=2)


def explain(settings, question):
    return BUILDER.explain(settings, question)


class Question:
    """The request that is asked about."""

    destination = "shop/cart:8080/rule/x"

    def __init__(self, target=b"/old/a?b=c", **headers):
        self.target = target
        self.client_headers = Headers({name.encode(): value.encode() for name, value in headers.items()})


class Headers(dict):
    """Its headers."""


@pytest.mark.parametrize(
    ("settings", "question", "expected"),
    [
        ({}, Question(), (302, "it is redirected to http://cart.shop.maesh:8080/old/a?b=c")),
        (
            {"status": 301, "scheme": "https"},
            Question(),
            (301, "it is redirected to https://cart.shop.maesh/old/a?b=c"),
        ),
        ({"port": 80}, Question(host="cart.shop"), (302, "it is redirected to http://cart.shop/old/a?b=c")),
        ({"path": {"prefix": "/old"}}, Question(), (302, "it is redirected to http://cart.shop.maesh:8080/a?b=c")),
        ({"path": {"prefix": "/x"}}, Question(), (0, "it does not redirect this request")),
        (
            {"path": {"prefix": "/old"}},
            Question(b"/old/../a"),
            (403, "the path is ambiguous, and its prefix is replaced"),
        ),
    ],
)
def test_it_explains_where_a_request_is_redirected(settings, question, expected):
    verdict = explain(settings, question)
    assert (verdict.status, *verdict.reasons) == expected
    assert verdict.is_admitted == (expected[0] == 0)


@given(st.dictionaries(st.sampled_from(NAMES), st.text(max_size=12), min_size=1))
def test_any_annotations_give_a_redirect_or_an_error(annotations):
    with contextlib.suppress(ConfigurationError):
        assert build(**annotations).is_of_service


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "scheme": st.text(max_size=6),
            "hostname": st.text(max_size=9),
            "port": st.integers() | st.floats() | st.none(),
            "statusCode": st.integers(),
            "path": st.dictionaries(st.sampled_from(["type", "replaceFullPath", "replacePrefixMatch"]), st.text()),
        },
    )
)
def test_any_filter_gives_a_redirect_or_an_error(value):
    with contextlib.suppress(ConfigurationError):
        assert build_filter(value).status
