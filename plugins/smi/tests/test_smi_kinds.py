"""SMI's kinds in the shapes of all their versions, and values that mean nothing."""

from fractions import Fraction

import pytest
from maesh_smi.kinds import KINDS, PATTERN_LIMIT, HttpRouteGroup, TcpRoute, TrafficSplit, UdpRoute, parse_weight

from maesh_core.plugin import ConfigurationError, HeaderMatch, HttpMatch, ObjectKey, weigh_pattern

BY_TYPE = {kind.type: kind for kind in KINDS}


def decode(type_, **fields):
    return BY_TYPE[type_].decode({"metadata": {"name": "x", "namespace": "shop"}, **fields})


@pytest.mark.parametrize(
    ("text", "weight"),
    [
        (1, 1),
        ("10", 10),
        (0, 0),
        ("500m", Fraction(1, 2)),
        ("0.5", Fraction(1, 2)),
        ("1k", 1000),
        ("2Ki", 2048),
        (0.25, Fraction(1, 4)),
    ],
)
def test_a_weight_is_a_number_or_a_quantity(text, weight):
    assert parse_weight(text) == weight


@pytest.mark.parametrize(
    "text",
    [
        -1,
        "-1",
        "",
        "many",
        "1x",
        "NaN",
        "inf",
        "1e99",
        "9" * 40,
        "1mm",
        "2000M",
        "1e999999999",
        "1e-999999999",
        "1_0",
        "٣",
    ],
)
def test_what_is_no_weight_says_so(text):
    with pytest.raises(ConfigurationError, match="weight"):
        parse_weight(text)


MATCH = {"name": "m", "pathRegex": "/api", "methods": ["get", "HEAD"]}


@pytest.mark.parametrize(
    "fields",
    [
        {"matches": [MATCH]},
        {"spec": {"matches": [MATCH]}},
    ],
)
def test_a_route_group_is_read_from_the_top_or_from_its_spec(fields):
    assert decode(HttpRouteGroup, **fields).build_matches() == (HttpMatch(paths=("/api",), methods=("GET", "HEAD")),)


@pytest.mark.parametrize(
    "headers", [{"X-A": "1", "X-B": "2"}, [{"X-A": "1"}, {"X-B": "2"}], [{"X-A": "1", "X-B": "2"}]]
)
def test_headers_are_a_map_or_a_list_of_maps(headers):
    (match,) = decode(HttpRouteGroup, spec={"matches": [{"name": "m", "headers": headers}]}).build_matches()
    assert match.headers == (HeaderMatch(name="x-a", pattern="1"), HeaderMatch(name="x-b", pattern="2"))


def test_an_empty_match_and_one_of_any_method_mean_everything():
    group = decode(HttpRouteGroup, spec={"matches": [{"name": "m"}, {"name": "n", "methods": ["*", "GET"]}]})
    assert group.build_matches() == (HttpMatch(), HttpMatch())


def test_matches_are_chosen_by_name_and_a_missing_one_is_an_error():
    group = decode(HttpRouteGroup, spec={"matches": [MATCH, {"name": "n", "methods": ["PUT"]}]})
    assert group.build_matches(("n",)) == (HttpMatch(methods=("PUT",)),)
    with pytest.raises(ConfigurationError, match="has no match o"):
        group.build_matches(("n", "o"))


def test_a_pattern_without_its_slash_gets_it():
    (match,) = decode(HttpRouteGroup, matches=[{"name": "m", "pathRegex": "api/.*"}]).build_matches()
    assert match.paths == ("/api/.*",)


@pytest.mark.parametrize("type_", [TcpRoute, UdpRoute])
@pytest.mark.parametrize(
    ("fields", "ports"),
    [
        ({}, ()),
        ({"spec": {"matches": {"ports": [8301, 8302]}}}, (8301, 8302)),
        ({"spec": {"matches": [{"ports": [1]}, {"ports": [1, 2]}]}}, (1, 2)),
    ],
)
def test_a_route_of_ports_narrows_them_or_not(type_, fields, ports):
    assert decode(type_, **fields).build_ports("a route") == ports


@pytest.mark.parametrize(
    ("service", "root"),
    [
        ("web", ObjectKey("shop", "web")),
        ("web.shop", ObjectKey("shop", "web")),
        ("web.shop.svc.cluster.local", ObjectKey("shop", "web")),
        ("web.other", None),
    ],
)
def test_a_split_names_its_service_with_or_without_its_domain_and_none_of_another_namespace(service, root):
    assert decode(TrafficSplit, spec={"service": service}).root == root


def test_every_version_of_every_kind_is_read_and_the_latest_is_preferred():
    versions = {kind.name: kind.api_versions for kind in KINDS}
    assert versions["TrafficSplit"] == tuple(f"split.smi-spec.io/v1alpha{number}" for number in (4, 3, 2, 1))
    assert versions["UDPRoute"] == ("specs.smi-spec.io/v1alpha4",)
    assert set(versions) == {"TrafficSplit", "HTTPRouteGroup", "TCPRoute", "UDPRoute"}


@pytest.mark.parametrize("fields", [{"pathregex": "/api"}, {"method": ["GET"]}, {"header": {}}])
def test_a_misspelt_condition_is_refused_for_without_it_everything_would_match(fields):
    group = decode(HttpRouteGroup, spec={"matches": [{"name": "m", **fields}]})
    assert "unknown field" in group.faults[0]
    with pytest.raises(ConfigurationError, match="unknown field"):
        group.build_matches()


def test_matches_of_one_name_are_all_meant_and_too_many_are_refused():
    group = decode(HttpRouteGroup, matches=[{"name": "m", "methods": ["PUT"]}, {"name": "m", "methods": ["GET"]}])
    assert group.build_matches(("m",)) == (HttpMatch(methods=("PUT",)), HttpMatch(methods=("GET",)))
    with pytest.raises(ConfigurationError, match="more than 1000"):
        decode(HttpRouteGroup, matches=[{"name": "m"}] * 1001).build_matches()


@pytest.mark.parametrize("pattern", ["/a.*", "/(a{100}){10}"])
def test_regular_expressions_of_a_group_are_limited_by_their_size(pattern):
    size = weigh_pattern(pattern)
    headers = {"x": pattern, "y": pattern, "z": pattern}
    matches = [{"name": "m", "pathRegex": pattern, "headers": headers}] * (PATTERN_LIMIT // (4 * size))
    assert len(decode(HttpRouteGroup, matches=matches).build_matches()) == len(matches)
    with pytest.raises(ConfigurationError, match="more than 2000 regular expressions"):
        decode(HttpRouteGroup, matches=[*matches, *matches[:1]]).build_matches()
