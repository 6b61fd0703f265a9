"""Filters: which may be together, what is passed on, and that none is skipped."""

from typing import Any

import pytest

from maesh_core.model.topology import FilterNode

from .conftest import FILTERS, write_path, write_route, write_rule, write_service

WEB, V1 = write_service("web"), write_service("v1", "10.0.1.1")
HEADERS: dict[str, Any] = {
    "type": "RequestHeaderModifier",
    "requestHeaderModifier": {"set": [{"name": "a", "value": "b"}]},
}
RESPONSE = {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"remove": ["a"]}}
REDIRECT: dict[str, Any] = {"type": "RequestRedirect", "requestRedirect": {"hostname": "a.example", "statusCode": 301}}
REWRITE = {"type": "URLRewrite", "urlRewrite": {"hostname": "a.example"}}
PREFIX = {"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/x"}}}
CORS = {"type": "CORS", "cors": {"allowOrigins": ["https://a.example"]}}


def write_mirror(name="v1", **fields):
    return {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": name, "port": 80}, **fields}}


def build(cluster, *filters, backends=("v1",), kind="HTTPRoute", available=FILTERS, **fields):
    rule = write_rule(*backends, filters=list(filters), **fields)
    return cluster(WEB, V1, write_route(rules=[rule], kind=kind), filters=available)


def test_filters_are_passed_on_as_written_and_in_order(cluster):
    rule = build(cluster, RESPONSE, HEADERS, CORS).find_rule()
    assert rule.filters == (
        FilterNode(name="ResponseHeaderModifier", value={"remove": ["a"]}),
        FilterNode(name="RequestHeaderModifier", value={"set": [{"name": "a", "value": "b"}]}),
        FilterNode(name="CORS", value={"allowOrigins": ["https://a.example"]}),
    )
    assert rule.answer is None


def test_fields_of_a_rule_act_as_filters(cluster):
    timeouts, retry, session = {"request": "1s"}, {"attempts": 2, "codes": [500]}, {"type": "Cookie"}
    rule = build(cluster, HEADERS, timeouts=timeouts, retry=retry, sessionPersistence=session).find_rule()
    assert rule.filters[1:] == (
        FilterNode(name="timeouts", value=timeouts),
        FilterNode(name="retry", value=retry),
        FilterNode(name="sessionPersistence", value=session),
    )


def test_filters_of_a_backend_are_those_of_its_node(cluster):
    rule = build(cluster, backends=[{"name": "v1", "port": 80, "filters": [HEADERS]}, "web"]).find_rule()
    assert [each.filters for each in rule.backends] == [
        (FilterNode(name="RequestHeaderModifier", value=HEADERS["requestHeaderModifier"]),),
        (),
    ]


def test_a_rule_that_redirects_has_an_answer_for_what_the_filter_leaves(cluster):
    rule = build(cluster, REDIRECT, backends=()).find_rule()
    assert rule.filters == (FilterNode(name="RequestRedirect", value=REDIRECT["requestRedirect"]),)
    assert rule.answer.status == 500


@pytest.mark.parametrize(
    ("filters", "reason", "text"),
    [
        ([HEADERS, HEADERS], "UnsupportedValue", "rules[0].filters: RequestHeaderModifier appears more than once"),
        ([REWRITE, REDIRECT], "IncompatibleFilters", "RequestRedirect and URLRewrite cannot be together"),
        ([REDIRECT], "UnsupportedValue", "a rule with RequestRedirect cannot have backendRefs"),
        ([{"type": "Nonsense"}], "UnsupportedValue", "rules[0].filters[0].type: 'Nonsense' is not supported"),
        ([{}], "UnsupportedValue", "rules[0].filters[0].type: '' is not supported"),
        ([{"type": "CORS"}], "UnsupportedValue", "a filter of type CORS has the field cors, and no other one"),
        ([{**CORS, "urlRewrite": {}}], "UnsupportedValue", "has the field cors, and no other one"),
        ([{"type": "ExternalAuth", "externalAuth": {}}], "UnsupportedValue", "'ExternalAuth' is not supported"),
        ([{"type": "CORS", "cors": {"allowOrigin": []}}], "UnsupportedValue", "unknown field; did you mean"),
        ([write_mirror(percent=101)], "UnsupportedValue", "<= 100"),
        ([write_mirror(percent=1, fraction={"numerator": 1})], "UnsupportedValue", "percent and fraction"),
        ([write_mirror(fraction={"numerator": 3, "denominator": 2})], "UnsupportedValue", "the numerator is"),
        ([write_mirror(fraction={"denominator": 2})], "UnsupportedValue", "the numerator is missing"),
        ([{"type": "RequestMirror", "requestMirror": {}}], "UnsupportedValue", "backendRef.name is missing"),
        (
            [{"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplaceFullPath"}}}],
            "UnsupportedValue",
            "path: ReplaceFullPath needs replaceFullPath",
        ),
        ([{"type": "URLRewrite", "urlRewrite": {"path": {}}}], "UnsupportedValue", "path.type: '' is not"),
        (
            [{"type": "RequestRedirect", "requestRedirect": {"statusCode": 418}}],
            "UnsupportedValue",
            "statusCode: invalid enum value 418",
        ),
    ],
)
def test_filters_that_cannot_be_used_close_the_rule(cluster, filters, reason, text):
    found = build(cluster, *filters)
    rule = found.find_rule()
    assert (rule.answer.status, rule.filters, rule.backends) == (500, (), ())
    problem = found.find_attachment().rules[0]
    assert problem.reason == reason
    assert text in problem.text
    assert not problem.is_dropped


@pytest.mark.parametrize("filter_", [REDIRECT, REWRITE, CORS])
def test_a_grpc_route_has_filters_of_headers_and_mirrors_only(cluster, filter_):
    assert build(cluster, filter_, kind="GRPCRoute", backends=()).find_rule().answer.reason.endswith("it has an error")
    rule = build(cluster, HEADERS, RESPONSE, write_mirror(), kind="GRPCRoute").find_rule()
    assert [each.name for each in rule.filters] == ["RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror"]


@pytest.mark.parametrize("fields", [{"timeouts": {"request": "1s"}}, {"retry": {"attempts": 1}}])
def test_a_grpc_route_has_neither_timeouts_nor_retries(cluster, fields):
    assert build(cluster, kind="GRPCRoute", **fields).find_rule().answer.status == 500


@pytest.mark.parametrize(
    ("matches", "is_valid"),
    [
        (None, True),
        ([write_path("/a")], True),
        ([{}], True),
        ([write_path("/a"), write_path("/b")], False),
        ([write_path("/a", "Exact")], False),
        ([write_path("/a", "RegularExpression")], False),
    ],
)
def test_a_prefix_is_replaced_only_where_there_is_exactly_one(cluster, matches, is_valid):
    fields = {} if matches is None else {"matches": matches}
    rule = build(cluster, PREFIX, **fields).find_rule()
    assert (rule.answer is None) == is_valid
    on_backend = build(cluster, backends=[{"name": "v1", "port": 80, "filters": [PREFIX]}], **fields).find_rule()
    assert (on_backend.answer is None) == is_valid


def test_a_filter_that_no_enabled_plugin_builds_closes_the_rule(cluster):
    for fields in ({"filters": [HEADERS]}, {"timeouts": {"request": "1s"}}):
        found = cluster(WEB, V1, write_route(rules=[write_rule("v1", **fields)]), filters=frozenset({"CORS"}))
        assert found.find_rule().answer.status == 500
        assert "no enabled plugin builds" in found.find_attachment().rules[0].text


def test_a_filter_of_a_backend_that_nothing_builds_closes_the_rule(cluster):
    backend = {"name": "v1", "port": 80, "filters": [HEADERS]}
    assert build(cluster, backends=[backend], available=frozenset()).find_rule().answer.status == 500


def test_an_extension_that_cannot_be_resolved_closes_the_rule(cluster):
    extension = {"type": "ExtensionRef", "extensionRef": {"group": "a.b", "kind": "C", "name": "d"}}
    found = build(cluster, extension)
    assert found.find_rule().answer.status == 500
    attachment = found.find_attachment()
    assert (attachment.reason, attachment.refs[0].reason) == ("", "InvalidKind")


# --- mirrors


def test_a_mirror_names_a_side_backend(cluster):
    found = build(cluster, write_mirror(percent=10), write_mirror("web"))
    assert found.find_rule().filters == (
        FilterNode(name="RequestMirror", value={"percent": 10, "backend": "mirror/shop/v1/80"}),
        FilterNode(name="RequestMirror", value={"backend": "mirror/shop/web/80"}),
    )
    sides = found.build().side_backends[80, "TCP"]
    assert {name: each.service.name for name, each in sides.items()} == {
        "mirror/shop/v1/80": "v1",
        "mirror/shop/web/80": "web",
    }


def test_a_mirror_to_an_invalid_backend_is_dropped_and_the_request_goes_on(cluster):
    found = build(cluster, write_mirror("nope"), HEADERS)
    rule = found.find_rule()
    assert [each.name for each in rule.filters] == ["RequestHeaderModifier"]
    assert rule.answer is None
    assert found.build().side_backends == {}
    assert found.find_attachment().refs[0].reason == "BackendNotFound"


def test_a_mirror_of_a_backend_is_a_side_backend_too(cluster):
    found = build(cluster, backends=[{"name": "v1", "port": 80, "filters": [write_mirror("web")]}])
    assert found.find_rule().backends[0].filters[0].value == {"backend": "mirror/shop/web/80"}
    assert list(found.build().side_backends[80, "TCP"]) == ["mirror/shop/web/80"]


def test_a_mirror_of_calls_is_called_with_http_2(cluster):
    found = build(cluster, write_mirror(), kind="GRPCRoute")
    side = found.build().side_backends[80, "TCP"]["mirror/shop/v1/80/h2c"]
    assert side.protocol == "h2c"
