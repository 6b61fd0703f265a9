"""The choice of a rule: the first match in order decides, however many there are and however large the request is."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maesh_core.model.configuration import HttpOrder, HttpRule, HttpRules
from maesh_core.model.matches import HeaderMatch, HttpMatch, QueryMatch
from maesh_core.model.matching import compile_matches
from maesh_core.proxy.http.messages.request_parsing import parse_request_head
from maesh_core.proxy.http.rules import PATTERNS_LIMIT, TRIED_LIMIT, CompiledOrder, compile_order

PATHS = st.lists(st.sampled_from(["a", "b", "ab"]), max_size=3).map(lambda parts: "".join(f"/{each}" for each in parts))
MATCHES = st.builds(
    HttpMatch,
    exact_path=st.sampled_from(["", "", "/"]) | PATHS,
    path_prefix=st.just("") | PATHS,
    path_pattern=st.sampled_from(["", "", "/a.*"]),
    methods=st.sampled_from([(), (), ("GET",), ("PUT",)]),
    headers=st.sampled_from([(), (), (HeaderMatch(name="x", value="1"),), (HeaderMatch(name="host", value="h"),)]),
    queries=st.sampled_from([(), (), (QueryMatch(name="q", value="1"),)]),
)
ORDERS = st.lists(MATCHES, max_size=30)
REQUESTS = st.builds(
    lambda path, query, value: parse_request_head(
        f"GET {path or '/'}{query} HTTP/1.1\r\nHost: h\r\nConnection: y\r\nX: {value}\r\nY: 1\r\n\r\n".encode()
    ),
    PATHS | PATHS.map(lambda path: path + "/"),
    st.sampled_from(["", "?q=1", "?q=%31", "?q=2&q=1"]),
    st.sampled_from("12"),
)


def compile_all(matches):
    return CompiledOrder([HttpOrder(rule=index, match=match) for index, match in enumerate(matches)])


def find_first(matches, head):
    """Try one after the other."""
    return next(
        (index for index, match in enumerate(matches) if compile_matches((match,))(head)), CompiledOrder.no_match
    )


@given(ORDERS, REQUESTS)
def test_the_first_match_in_order_decides(matches, head):
    assert compile_all(matches).find(head) == find_first(matches, head)


@settings(deadline=None)
@given(ORDERS, REQUESTS)
def test_the_dicts_and_the_parsed_head_find_the_same_rule(matches, head):
    order = compile_all(matches)
    expected = find_first(matches, head)
    assert order._find_parsed(head) == expected
    candidates = order._list_candidates(head.target.partition(b"?")[0])
    assert candidates == sorted(candidates)
    assert expected == CompiledOrder.no_match or expected in candidates


@pytest.mark.parametrize("count", [2, TRIED_LIMIT + 1, 100])
def test_longer_prefixes_and_exact_paths_are_found_among_many(count):
    matches = [HttpMatch(exact_path="/v1/a")]
    matches += [HttpMatch(path_prefix=f"/v{index}/b") for index in range(count)]
    matches += [HttpMatch(path_prefix="/v1"), HttpMatch()]
    order = compile_all(matches)
    for target, expected in [
        (b"/v1/a", 0),
        (b"/v1/b/c?x", 2),
        (b"/v1/c", count + 1),
        (b"/", count + 2),
        (b"/v1/", count + 1),
    ]:
        assert order.find(parse_request_head(b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % target)) == expected


def test_a_path_that_can_be_read_in_two_ways_has_no_rule_if_a_rule_reads_paths():
    head = parse_request_head(b"GET /a//b HTTP/1.1\r\nHost: h\r\n\r\n")
    assert compile_all([HttpMatch(path_prefix="/a"), HttpMatch()]).find(head) == CompiledOrder.ambiguous
    assert compile_all([HttpMatch(methods=("PUT",)), HttpMatch()]).find(head) == 1


def test_the_choice_for_a_repeated_head_is_kept_for_the_same_rules_only():
    head = parse_request_head(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
    order, other = compile_all([HttpMatch(path_prefix="/a")]), compile_all([HttpMatch(path_prefix="/b")])
    assert [order.find(head), order.find(head), other.find(head), order.find(head)] == [0, 0, CompiledOrder.no_match, 0]


def test_equal_matches_are_not_compiled_again():
    one = HttpRules(rules=(HttpRule(service="a"),), order=(HttpOrder(rule=0, match=HttpMatch(path_prefix="/a")),))
    other = HttpRules(rules=(HttpRule(service="b"),), order=(HttpOrder(rule=0, match=HttpMatch(path_prefix="/a")),))
    order = compile_order(one, None)
    assert compile_order(other, order) is order
    assert compile_order(HttpRules(), order) is not order


@pytest.mark.timeout(60)
@pytest.mark.parametrize("target", [b"/?" + b"a&" * 30_000, b"/" + b"a/" * 30_000, b"/?" + b"q=1&" * 15_000])
def test_a_large_request_does_not_take_long_whatever_the_rules_are(target):
    headers = tuple(HeaderMatch(name=f"x-{index}", value="1") for index in range(16))
    queries = tuple(QueryMatch(name=f"q{index}", value="1") for index in range(16))
    prefixes = [f"/{'a/' * index}b" for index in range(64)] * 2
    order = compile_all([HttpMatch(path_prefix=each, headers=headers, queries=queries) for each in prefixes])
    head = parse_request_head(b"GET /a HTTP/1.1\r\nHost: h\r\n" + b"x-1: 2\r\n" * 500 + b"\r\n")
    head.target = target
    assert order.find(head) == CompiledOrder.no_match


@pytest.mark.parametrize("count", [1, TRIED_LIMIT + 1, 100])
def test_a_request_too_large_for_the_patterns_has_no_rule_however_many_there_are(count):
    matches = [HttpMatch(path_prefix="/a", headers=(HeaderMatch(name="x", pattern="(a|b|ab)*c"),))] * count
    order = compile_all([*matches, HttpMatch()])
    size = order._matches[0].pattern_size * count
    assert size == 5 * count
    for target, length, expected in [
        (b"/a", 100, count),
        (b"/a", PATTERNS_LIMIT // size + 1, CompiledOrder.too_large),
        (b"/b", PATTERNS_LIMIT // size + 1, count),
    ]:
        head = parse_request_head(b"GET %b HTTP/1.1\r\nHost: h\r\nX: %b\r\n\r\n" % (target, b"a" * length))
        assert order.find(head) == expected


def test_patterns_that_are_slow_for_a_small_head_are_limited_too():
    slow = HeaderMatch(name="x", pattern="(.*a){140}")
    match = HttpMatch(headers=(slow,))
    order = compile_all([match] * TRIED_LIMIT)
    for length, expected in [(100, CompiledOrder.no_match), (4000, CompiledOrder.too_large)]:
        head = parse_request_head(b"GET / HTTP/1.1\r\nHost: h\r\nX: %b\r\n\r\n" % (b"b" * length))
        assert order.find(head) == expected
