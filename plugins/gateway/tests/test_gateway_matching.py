"""Matches of rules become conditions on requests, with ranks; what the CRD refuses is an error."""

import msgspec
import pytest
from maesh_gateway.reading.matching import build_grpc_matches, build_http_matches
from maesh_gateway.reading.shapes import GrpcMatchShape, HttpMatchShape

from maesh_core.errors import ConfigurationError
from maesh_core.plugin import HeaderMatch, HttpMatch, QueryMatch, compile_matches


def build_http(**fields):
    return build_http_matches([msgspec.convert(fields, HttpMatchShape)])[0]


def build_grpc(**fields):
    return build_grpc_matches([msgspec.convert(fields, GrpcMatchShape)])[0]


class Request:
    def __init__(self, target="/", *, method="GET", headers=()):
        self.method, self.target = method.encode(), target.encode()
        self._headers = headers
        self.client_headers = self

    def get_all(self, name):
        return [value.encode() for key, value in self._headers if key == name.decode()]


def holds(match, *args, **options):
    return compile_matches([match])(Request(*args, **options))


def test_a_rule_without_matches_matches_everything():
    assert [each.match for each in build_http_matches([])] == [HttpMatch()]
    assert [each.match for each in build_grpc_matches([])] == [HttpMatch()]


def test_a_match_without_conditions_is_the_prefix_of_every_path():
    assert build_http().match == HttpMatch()
    assert build_http().rank == build_http(path={"type": "PathPrefix", "value": "/"}).rank


@pytest.mark.parametrize("value", ["/abc", "/abc/", "/abc//"[:5]])
def test_a_prefix_matches_whole_elements_and_its_final_slash_is_ignored(value):
    match = build_http(path={"value": value}).match
    assert [path for path in ("/abc", "/abc/", "/abc/d", "/abc?a=b", "/abcd", "/ab", "/") if holds(match, path)] == [
        "/abc",
        "/abc/",
        "/abc/d",
        "/abc?a=b",
    ]


def test_an_exact_path_matches_byte_for_byte_without_the_query():
    match = build_http(path={"type": "Exact", "value": "/abc"}).match
    assert [path for path in ("/abc", "/abc?a", "/abc/", "/ABC", "/abcd") if holds(match, path)] == ["/abc", "/abc?a"]


def test_a_regular_expression_matches_the_whole_path():
    match = build_http(path={"type": "RegularExpression", "value": "/v[0-9]+"}).match
    assert [path for path in ("/v1", "/v12?a", "/v1/x", "/x/v1") if holds(match, path)] == ["/v1", "/v12?a"]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("abc", "does not start with /"),
        ("", "does not start with /"),
        ("/a//b", "contains //"),
        ("/a/./b", "contains /./"),
        ("/a/../b", "contains /../"),
        ("/a%2fb", "contains %2f"),
        ("/a%2Fb", "contains %2F"),
        ("/a#b", "contains #"),
        ("/a/..", "ends with a dot segment"),
        ("/a/.", "ends with a dot segment"),
        ("/a b", "has a character that a path cannot have"),
        ("/ä", "has a character that a path cannot have"),
        ("/a%zz", "has a character that a path cannot have"),
        ("/a\n", "has a character that a path cannot have"),
    ],
)
@pytest.mark.parametrize("type_", ["Exact", "PathPrefix"])
def test_a_path_that_the_crd_refuses_is_an_error(value, problem, type_):
    with pytest.raises(ConfigurationError, match=problem):
        build_http(path={"type": type_, "value": value})


def test_headers_match_whole_values_and_names_without_case():
    match = build_http(headers=[{"name": "X-Version", "value": "v[12]", "type": "RegularExpression"}]).match
    values = ["v1", "v2", "v12", "av1", "V1"]
    assert [value for value in values if holds(match, headers=[("x-version", value)])] == ["v1", "v2"]


def test_a_pattern_of_alternatives_matches_as_a_whole():
    match = build_http(headers=[{"name": "a", "value": "one|two.*", "type": "RegularExpression"}]).match
    values = ["one", "ones", "two!", "a two"]
    assert [value for value in values if holds(match, headers=[("a", value)])] == ["one", "two!"]


def test_a_pattern_cannot_leave_the_group_around_it():
    with pytest.raises(ConfigurationError, match=r"matches\[0\].headers"):
        build_http(headers=[{"name": "a", "value": "one)|(?:.*", "type": "RegularExpression"}])


def test_of_several_conditions_for_one_name_the_first_one_counts():
    found = build_http(
        headers=[{"name": "Version", "value": "one"}, {"name": "version", "value": "two"}],
        queryParams=[{"name": "a", "value": "1"}, {"name": "a", "value": "2"}, {"name": "A", "value": "3"}],
    )
    assert found.match.headers == (HeaderMatch(name="version", value="one"),)
    assert found.match.queries == (QueryMatch(name="a", value="1"), QueryMatch(name="A", value="3"))
    assert found.rank[-2:] == (-1, -2)


def test_a_plain_pattern_of_a_header_is_compared_as_text():
    found = build_http(headers=[{"name": "a", "value": "one", "type": "RegularExpression"}])
    assert found.match.headers == (HeaderMatch(name="a", value="one"),)


def test_query_parameters_match_by_name_and_value():
    match = build_http(queryParams=[{"name": "animal", "value": "whale"}]).match
    assert holds(match, "/?animal=whale&x")
    assert not holds(match, "/?animal=dog&animal=whale")
    assert not holds(match, "/?Animal=whale")


@pytest.mark.parametrize("field", ["headers", "queryParams"])
@pytest.mark.parametrize(("missing", "rest"), [("name", {"value": "x"}), ("value", {"name": "x"})])
def test_a_condition_without_name_or_value_is_an_error(field, missing, rest):
    with pytest.raises(ConfigurationError, match=rf"matches\[0\]\.{field}\[0\]\.{missing} is missing"):
        build_http(**{field: [rest]})


def test_a_method_is_compared():
    match = build_http(method="POST").match
    assert (holds(match, method="POST"), holds(match, method="GET")) == (True, False)


def test_all_conditions_of_a_match_must_hold():
    match = build_http(path={"value": "/v2"}, headers=[{"name": "version", "value": "two"}], method="GET").match
    assert holds(match, "/v2/x", headers=[("version", "two")])
    assert not holds(match, "/v1", headers=[("version", "two")])
    assert not holds(match, "/v2")


# --- gRPC


def test_a_call_is_matched_by_its_service_and_method():
    assert build_grpc(method={"service": "foo.Bar", "method": "Login"}).match == HttpMatch(exact_path="/foo.Bar/Login")


def test_a_service_alone_matches_all_its_methods_and_no_other_service():
    match = build_grpc(method={"service": "foo.Bar"}).match
    assert [path for path in ("/foo.Bar/Login", "/foo.Bar/X", "/foo.Bars/X", "/foo/X") if holds(match, path)] == [
        "/foo.Bar/Login",
        "/foo.Bar/X",
    ]


def test_a_method_alone_matches_it_in_every_service():
    match = build_grpc(method={"method": "Login"}).match
    assert [path for path in ("/foo.Bar/Login", "/x/Login", "/x/Logins", "/Login") if holds(match, path)] == [
        "/foo.Bar/Login",
        "/x/Login",
    ]


def test_patterns_of_services_and_methods_match_as_a_whole():
    match = build_grpc(method={"type": "RegularExpression", "service": "foo\\.(A|B)", "method": "Get.*"}).match
    assert [path for path in ("/foo.A/Get", "/foo.B/GetX", "/foo.C/Get", "/foo.A/Put") if holds(match, path)] == [
        "/foo.A/Get",
        "/foo.B/GetX",
    ]


def test_headers_alone_are_a_match_of_calls():
    match = build_grpc(headers=[{"name": "version", "value": "one"}]).match
    assert holds(match, "/any/Call", headers=[("version", "one")])
    assert not holds(match, "/any/Call")


@pytest.mark.parametrize(
    ("method", "problem"),
    [
        ({}, "neither a service nor a method"),
        ({"type": "Exact"}, "neither a service nor a method"),
        ({"service": "foo/bar"}, "'foo/bar' is not the name of a gRPC service"),
        ({"method": "Log in"}, "'Log in' is not the name of a gRPC method"),
        ({"service": "a.b", "method": "1x"}, "'1x' is not the name of a gRPC method"),
        ({"type": "RegularExpression", "service": "a)|(b"}, "not a valid pattern"),
    ],
)
def test_a_method_that_the_crd_refuses_is_an_error(method, problem):
    with pytest.raises(ConfigurationError) as error:
        build_grpc(method=method)
    assert problem in str(error.value)


def test_ranks_of_calls_are_the_lengths_of_service_and_method_then_headers():
    header = [{"name": "a", "value": "b"}]
    assert build_grpc(method={"service": "a.B", "method": "Get"}, headers=header).rank == (-3, -3, -1)
    assert build_grpc(method={"method": "Login"}).rank == (0, -5, 0)
    assert build_grpc(headers=header).rank == (0, 0, -1)
