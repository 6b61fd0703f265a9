"""Annotations or a filter in, a policy or an error out."""

import contextlib
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from maesh_cors.controller import CorsBuilder
from maesh_cors.settings import CorsPolicy

from maesh_core.plugin import ConfigurationError, FilterRequest, ObjectKey, PortNode, ServiceNode

SERVICE = ServiceNode(key=ObjectKey("shop", "cart"), traffic_type="http")
BUILDER = CorsBuilder()


def send(built):
    """Return what the proxy would get."""
    return built and msgspec.convert(msgspec.json.decode(msgspec.json.encode(built)), CorsPolicy)


def build(annotations):
    return send(BUILDER.build_settings({f"cors-{name}": text for name, text in annotations.items()}, SERVICE))


def build_filter(*values):
    requests = [FilterRequest(name="CORS", value=value, matches=(), port=PortNode(number=80)) for value in values]
    return send(BUILDER.build_filter(requests, SERVICE))


def test_a_service_without_the_annotations_has_no_policy():
    assert build({}) is None


def test_annotations_become_a_policy():
    found = build(
        {
            "allow-origins": "https://a.example, https://*.a.example",
            "allow-methods": "GET,PUT",
            "allow-headers": "Authorization, X-A",
            "expose-headers": "*",
            "allow-credentials": "true",
            "max-age": "10m",
        }
    )
    assert found == CorsPolicy(
        origins=("https://a.example", "https://*.a.example"),
        methods=("GET", "PUT"),
        headers=("Authorization", "X-A"),
        exposed=("*",),
        has_credentials=True,
        max_age_s=600,
    )
    assert build({"allow-origins": "*"}) == CorsPolicy(origins=("*",))


@pytest.mark.parametrize(
    ("annotations", "text"),
    [
        ({"max-age": "5"}, "cors-max-age: '5' has no effect without cors-allow-origins"),
        ({"allow-origins": ""}, "cors-allow-origins: '' is not a comma-separated list"),
        ({"allow-origins": "http://a,"}, "cors-allow-origins: 'http://a,' is not a comma-separated list"),
        (
            {"allow-origins": "a.example"},
            "cors-allow-origins: 'a.example' has 'a.example', which is not * or an origin",
        ),
        ({"allow-origins": "http://a/b"}, "cors-allow-origins: 'http://a/b' has 'http://a/b', which is not"),
        ({"allow-origins": "*, http://a"}, "cors-allow-origins: '*, http://a' has * and other entries"),
        (
            {"allow-origins": "*", "allow-methods": "get"},
            "cors-allow-methods: 'get' has 'get', which is not * or a method",
        ),
        (
            {"allow-origins": "*", "allow-headers": "a b"},
            "cors-allow-headers: 'a b' has 'a b', which is not * or the name",
        ),
        ({"allow-origins": "*", "expose-headers": "a\r\nb"}, "cors-expose-headers: "),
        ({"allow-origins": "*", "allow-credentials": "maybe"}, "cors-allow-credentials: 'maybe' is not true or false"),
        ({"allow-origins": "*", "max-age": "-1"}, "cors-max-age: '-1' is not a duration"),
        ({"allow-origins": "*", "max-age": "9999999999"}, "cors-max-age: '9999999999' is not a duration"),
        (
            {"allow-origins": ",".join(f"http://a{number}" for number in range(65))},
            "cors-allow-origins: 'http://a0,",
        ),
    ],
)
def test_a_bad_annotation_is_an_error_that_names_it_and_the_rule(annotations, text):
    with pytest.raises(ConfigurationError) as caught:
        build(annotations)
    assert str(caught.value).startswith(f"annotation {text}")


def test_a_filter_becomes_a_policy():
    value = {
        "allowOrigins": ["https://a.example"],
        "allowMethods": ["*"],
        "allowHeaders": ["X-A"],
        "exposeHeaders": ["X-B"],
        "allowCredentials": True,
        "maxAge": 3600,
    }
    assert build_filter(value) == CorsPolicy(
        origins=("https://a.example",),
        methods=("*",),
        headers=("X-A",),
        exposed=("X-B",),
        has_credentials=True,
        max_age_s=3600,
    )
    assert build_filter({}) == CorsPolicy()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"allowOrigins": ["shop"]}, "allowOrigins: it has 'shop', which is not * or an origin"),
        ({"allowOrigins": ["*", "http://a"]}, "allowOrigins: it has * and other entries"),
        ({"allowMethods": ["LINK"]}, "allowMethods: it has 'LINK', which is not * or a method"),
        ({"allowHeaders": [""]}, "allowHeaders: it has '', which is not * or the name of a header"),
        ({"exposeHeaders": ["a\r\nb"]}, "exposeHeaders: it has 'a\\r\\nb', which is not"),
        ({"maxAge": 0}, "maxAge: 0 is not a number of seconds from 1 on"),
        ({"maxAge": "5"}, "maxAge: "),
        ({"allowCredentials": "yes"}, "allowCredentials: "),
        ({"allowOrigin": []}, "allowOrigin: unknown field; did you mean allowOrigins?"),
        ({"allowHeaders": [f"x-{number}" for number in range(65)]}, "allowHeaders: it has more than 64 entries"),
    ],
)
def test_a_filter_that_cannot_be_applied_completely_is_an_error(value, text):
    with pytest.raises(ConfigurationError) as caught:
        build_filter(value)
    assert str(caught.value).startswith(f"CORS: {text}")


def test_a_rule_has_only_one_policy():
    with pytest.raises(ConfigurationError, match="CORS: a rule may have only one"):
        build_filter({}, {})


def explain(settings, question):
    return BUILDER.explain(settings, question)


class Question(NamedTuple):
    """The request that is asked about."""

    method: bytes = b"GET"
    client_headers: Mapping[bytes, bytes] = {}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, "pages of no origin may use it (CORS)"),
        ({"origins": ["http://a", "http://b"]}, "pages of http://a, http://b may use it (CORS)"),
        ({"origins": ["*"], "hasCredentials": True}, "pages of * may use it with credentials (CORS)"),
    ],
)
def test_it_explains_which_pages_may_use_the_service(settings, reason):
    verdict = explain(settings, Question())
    assert (verdict.is_admitted, verdict.reasons) == (True, (reason,))


@pytest.mark.parametrize(("origin", "status"), [(b"http://a", 204), (b"http://b", 403)])
def test_it_explains_that_preflight_requests_are_answered(origin, status):
    headers = {b"origin": origin, b"access-control-request-method": b"PUT"}
    verdict = explain({"origins": ["http://a"]}, Question(b"OPTIONS", headers))
    assert (verdict.is_admitted, verdict.status) == (False, status)


_NAMES = ["allow-origins", "allow-methods", "allow-headers", "expose-headers", "allow-credentials", "max-age"]


@given(st.dictionaries(st.sampled_from(_NAMES), st.text(max_size=12), min_size=1))
def test_any_annotations_give_a_policy_or_an_error(annotations):
    with contextlib.suppress(ConfigurationError):
        assert build({"allow-origins": "*", **annotations}).origins


_TEXTS = st.lists(st.text(max_size=9), max_size=3)


@given(st.dictionaries(st.sampled_from(["allowOrigins", "allowMethods", "allowHeaders", "x"]), _TEXTS))
def test_any_filter_gives_a_policy_or_an_error(value):
    with contextlib.suppress(ConfigurationError):
        assert build_filter(value).max_age_s == 5
