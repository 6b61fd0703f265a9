"""Matches of SMI in, matches of HTTPRoutes out, in an order that chooses alike."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from maesh_smi.route_matches import (
    MATCH_LIMIT,
    InexpressibleError,
    Match,
    arrange,
    combine,
    convert_match,
    render_matches,
)

from maesh_core.plugin import HeaderMatch, HttpMatch


def convert_path(*patterns):
    (match,) = convert_match(HttpMatch(paths=patterns))
    return match.path


@pytest.mark.parametrize("pattern", ["/", "", ".*", "/.*", "^/"])
def test_a_pattern_that_every_path_matches_is_no_condition(pattern):
    assert convert_path(pattern) is None


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("/api", ("RegularExpression", "/api.*")),
        ("^/api", ("RegularExpression", "/api.*")),
        ("/api$", ("Exact", "/api")),
        ("/api/v1(/|$)", ("PathPrefix", "/api/v1")),
        ("/api(/.*)?$", ("PathPrefix", "/api")),
        ("/a.c", ("RegularExpression", "(?:/a.c).*")),
        ("/a|/b", ("RegularExpression", "(?:/a|/b).*")),
        ("/a//b$", ("RegularExpression", "(?:/a//b$).*")),
        ("//", ("RegularExpression", "(?://).*")),
    ],
)
def test_a_path_pattern_matches_at_the_start_and_becomes_what_says_the_same(pattern, path):
    assert convert_path(pattern) == path


def test_a_header_pattern_may_match_anywhere():
    headers = tuple(HeaderMatch(name=f"x-{index}", pattern=text) for index, text in enumerate(["^beta$", "b.", ""]))
    (match,) = convert_match(HttpMatch(headers=headers))
    assert match.headers == (
        ("x-0", "Exact", "beta"),
        ("x-1", "RegularExpression", ".*(?:b.).*"),
        ("x-2", "RegularExpression", ".*"),
    )


def test_a_match_with_several_methods_becomes_several_matches():
    assert [match.method for match in convert_match(HttpMatch(methods=("GET", "HEAD")))] == ["GET", "HEAD"]


@pytest.mark.parametrize(
    "match",
    [
        HttpMatch(paths=("/a", "/b")),
        HttpMatch(methods=("PURGE",)),
        HttpMatch(headers=(HeaderMatch(name="x", pattern="a"), HeaderMatch(name="x", pattern="b"))),
        HttpMatch(paths=("/a" * 1000,)),
    ],
)
def test_what_no_match_of_a_route_means_is_refused(match):
    with pytest.raises(InexpressibleError):
        convert_match(match)


EXACT, BELOW, PATTERN = (Match((kind, "/a")) for kind in ("Exact", "PathPrefix", "RegularExpression"))
GET, BETA = Match(method="GET"), Match(headers=(("x", "Exact", "beta"),))


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (GET, BETA, Match(method="GET", headers=BETA.headers)),
        (GET, Match(method="PUT"), None),
        (EXACT, BELOW, EXACT),
        (EXACT, Match(("Exact", "/b")), None),
        (Match(("PathPrefix", "/a/b")), BELOW, Match(("PathPrefix", "/a/b"))),
        (Match(("PathPrefix", "/ab")), BELOW, None),
        (PATTERN, GET, Match(PATTERN.path, "GET")),
    ],
)
def test_two_matches_are_combined_into_the_one_that_meets_both(one, other, both):
    assert combine(one, other) == combine(other, one) == both


@pytest.mark.parametrize(
    ("one", "other"), [(PATTERN, BELOW), (PATTERN, EXACT), (BETA, Match(headers=(("x", "Exact", "b"),)))]
)
def test_conditions_that_one_match_cannot_have_together_are_refused(one, other):
    with pytest.raises(InexpressibleError):
        combine(one, other)


def test_a_more_specific_match_of_a_later_rule_does_not_overtake_an_earlier_one():
    found = arrange([[BETA], [EXACT], [Match()]])
    both = Match(EXACT.path, headers=BETA.headers)
    assert found.rules == ((BETA, both), (EXACT,), (Match(),))
    assert not found.differences
    assert both.rank < EXACT.rank < BETA.rank < Match().rank


def test_a_match_that_an_earlier_rule_covers_is_left_out():
    assert arrange([[BELOW], [EXACT, GET]]).rules == ((BELOW,), (GET,))
    assert arrange([[Match()], [EXACT]]).rules == ((Match(),), ())
    assert arrange([[EXACT], [EXACT]]).rules == ((EXACT,), ())


def test_a_match_that_was_left_out_is_not_added_for_another_pair():
    found = arrange([[BETA], [BETA], [GET]])
    assert found.rules == ((BETA, Match(method="GET", headers=BETA.headers)), (), (GET,))


PARTS = st.tuples(
    st.sampled_from([None, ("PathPrefix", "/a"), ("Exact", "/a"), ("PathPrefix", "/a/b")]),
    st.sampled_from(["", "GET"]),
    st.sampled_from([(), BETA.headers]),
)


@given(st.lists(st.lists(PARTS, min_size=1, max_size=2), min_size=1, max_size=4))
def test_arranging_ends_for_any_rules(rules):
    found = arrange([[Match(*parts) for parts in rule] for rule in rules])
    assert len(found.rules) == len(rules)


def test_an_order_that_cannot_be_kept_is_reported():
    found = arrange([[PATTERN], [EXACT]])
    assert found.rules == ((PATTERN,), (EXACT,))
    assert found.differences == (
        "path Exact /a is decided before path RegularExpression /a, unlike in SMI: both have a condition on the path",
    )


def test_too_many_matches_are_refused():
    many = [Match(("Exact", f"/{number}")) for number in range(MATCH_LIMIT)]
    assert sum(map(len, arrange([many[:64], many[64:]]).rules)) == MATCH_LIMIT
    with pytest.raises(InexpressibleError):
        arrange([many[:64], many[64:], [GET]])


def test_matches_are_rendered_as_in_a_manifest():
    match = Match(("PathPrefix", "/a"), "GET", (("x", "Exact", "b"), ("y", "RegularExpression", ".*")))
    assert render_matches([match]) == {
        "matches": [
            {
                "path": {"type": "PathPrefix", "value": "/a"},
                "headers": [
                    {"name": "x", "value": "b"},
                    {"type": "RegularExpression", "name": "y", "value": ".*"},
                ],
                "method": "GET",
            }
        ]
    }
    assert render_matches([Match()]) == {}
