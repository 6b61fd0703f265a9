"""Annotations or filters in, a rewrite or an error out."""

import contextlib
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from maesh_rewrite.controller import RewriteBuilder
from maesh_rewrite.settings import Rewrite

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
BUILDER = RewriteBuilder()
FULL = {"type": "ReplaceFullPath", "replaceFullPath": "/x"}


def send(built):
    """Return what the proxy would get."""
    return built and msgspec.convert(msgspec.json.decode(msgspec.json.encode(built)), Rewrite)


def build(**annotations):
    return send(BUILDER.build_settings({f"rewrite-{name}": text for name, text in annotations.items()}, SERVICE))


def build_filter(*values, prefix="/old"):
    matches = (HttpMatch(path_prefix=prefix),)
    requests = [
        FilterRequest(name="URLRewrite", value=value, matches=matches, port=PortNode(number=80)) for value in values
    ]
    return send(BUILDER.build_filter(requests, SERVICE))


def test_a_service_without_the_annotations_has_no_rewrite():
    assert build() is None


def test_annotations_become_the_rewrite_of_a_service():
    assert build(host="a.internal", path="/v2") == Rewrite(host="a.internal", path=PathChange(full="/v2"))
    assert build(path="/v2", prefix="/v1") == Rewrite(path=PathChange(prefix="/v1", replacement="/v2"))
    assert build(prefix="/v1") == Rewrite(path=PathChange(prefix="/v1"))


@pytest.mark.parametrize(
    ("name", "text", "rule"),
    [
        ("host", "", "is not a host name in lower case"),
        ("host", "a.internal:80", "is not a host name in lower case"),
        ("host", "A.internal", "is not a host name in lower case"),
        ("host", "a\r\nX: y", "is not a host name in lower case"),
        ("host", "a" * 254, "is not a host name in lower case"),
        ("path", "v2", "is not a path that starts with /"),
        ("path", "/v2?a=b", "is not a path that starts with /"),
        ("prefix", "", "is not a path that starts with /"),
        ("prefix", "/v1/../v2", "is not a path that starts with /"),
    ],
)
def test_a_bad_annotation_is_an_error_that_names_it_and_the_rule(name, text, rule):
    with pytest.raises(ConfigurationError) as caught:
        build(**{name: text})
    assert str(caught.value).startswith(f"annotation rewrite-{name}: ")
    assert rule in str(caught.value)


def test_a_filter_becomes_the_rewrite_of_a_rule():
    value = {"hostname": "a.internal", "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/new/"}}
    assert build_filter(value) == Rewrite(host="a.internal", path=PathChange(prefix="/old", replacement="/new"))
    assert build_filter({"hostname": "a.internal"}) == Rewrite(host="a.internal")


def test_the_parts_of_a_backends_filter_win_over_those_of_its_rule():
    rule = {"hostname": "a.internal", "path": FULL}
    assert build_filter(rule, {"hostname": "b.internal"}) == Rewrite(host="b.internal", path=PathChange(full="/x"))
    assert build_filter({"hostname": "a.internal"}, {"path": FULL}) == build_filter(rule)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({}, "it has neither hostname nor path"),
        ({"hostname": ""}, "hostname: '' is not a host name"),
        ({"hostname": "a.internal:80"}, "hostname: 'a.internal:80' is not a host name"),
        ({"path": {"type": "Regex"}}, "path.type: 'Regex' is not ReplaceFullPath or ReplacePrefixMatch"),
        ({"path": {"type": "ReplaceFullPath", "replaceFullPath": "/a//b"}}, "path.replaceFullPath: '/a//b' is not"),
        ({"path": {"type": "ReplaceFullPath", "replaceFulPath": "/a"}}, "path.replaceFulPath: unknown field"),
        ({"scheme": "https"}, "scheme: unknown field"),
    ],
)
def test_a_filter_that_cannot_be_applied_completely_is_an_error(value, text):
    with pytest.raises(ConfigurationError) as caught:
        build_filter(value)
    assert str(caught.value).startswith(f"URLRewrite: {text}")


def explain(settings, question):
    return BUILDER.explain(settings, question)


class Question(NamedTuple):
    """The request that is asked about."""

    target: bytes


@pytest.mark.parametrize(
    ("settings", "target", "reasons"),
    [
        ({"host": "a.internal"}, b"/", ("host a.internal is sent",)),
        ({"host": "a", "path": {"full": "/x"}}, b"/y?z", ("host a is sent", "/x?z is sent")),
        ({"path": {"prefix": "/v1", "replacement": "/v2"}}, b"/v1/a", ("/v2/a is sent",)),
        ({"path": {"prefix": "/v1"}}, b"/v2", ("it does not change this request",)),
    ],
)
def test_it_explains_what_is_sent(settings, target, reasons):
    verdict = explain(settings, Question(target))
    assert (verdict.is_admitted, verdict.status, verdict.reasons) == (True, 0, reasons)


def test_it_explains_that_an_ambiguous_path_is_refused():
    verdict = explain({"path": {"prefix": "/v1"}}, Question(b"/v1/../a"))
    assert (verdict.is_admitted, verdict.status) == (False, 403)


@given(st.dictionaries(st.sampled_from(["host", "path", "prefix"]), st.text(max_size=12), min_size=1))
def test_any_annotations_give_a_rewrite_or_an_error(annotations):
    with contextlib.suppress(ConfigurationError):
        assert build(**annotations) != Rewrite()


@given(st.lists(st.dictionaries(st.sampled_from(["hostname", "path", "x"]), st.text(max_size=9)), min_size=1))
def test_any_filters_give_a_rewrite_or_an_error(values):
    with contextlib.suppress(ConfigurationError):
        assert build_filter(*values) != Rewrite()
