"""What is claimed about matches is true for every request: of a covered match, and of one that holds for none."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.controller.checking.matches import METHODS, covers, find_impossible
from maesh_core.model.matches import HeaderMatch, HttpMatch, QueryMatch
from maesh_core.model.matching import CompiledMatch
from maesh_core.proxy.http.messages import syntax

SEGMENTS = ("", "/", "/a", "/a/", "/a/b", "/ab", "/a.b", "/b", "/b/a/")
PATTERNS = (
    *("/a", "/a$", "^/a", "/a.*", "/a/.*", "/a(/|$)", "/a(/.*)?", "/(a|b)", "/[ab]", "/a/?", "/a+", "/.*", ".*", "/"),
    *("/a\\.b", "/ab?", "a", "/a$b", "b^", "(/a|/b/.*)$", "/a(b)", "/a{1,2}", "(?:/a)", "^$", "/a/b/.*$", "x?/a"),
)
VALUES = ("", "a", "b", "ab", "x")
VALUE_PATTERNS = ("", ".*", "a", "^a$", "a|b", "b+", "^$")
names = st.sampled_from(("x-a", "x-b"))
headers = st.builds(HeaderMatch, name=names, pattern=st.sampled_from(VALUE_PATTERNS)) | st.builds(
    HeaderMatch, name=names, value=st.sampled_from(VALUES)
)
queries = st.builds(QueryMatch, name=names, pattern=st.sampled_from(VALUE_PATTERNS)) | st.builds(
    QueryMatch, name=names, value=st.sampled_from(VALUES)
)
matches = st.builds(
    HttpMatch,
    paths=st.lists(st.sampled_from(PATTERNS), max_size=2).map(tuple),
    methods=st.lists(st.sampled_from(("GET", "POST", "GTE")), max_size=2, unique=True).map(tuple),
    headers=st.lists(headers, max_size=2).map(tuple),
    queries=st.lists(queries, max_size=1).map(tuple),
    exact_path=st.sampled_from(("", "", "/a", "/a/b")),
    path_prefix=st.sampled_from(("", "", "/a", "/a/b")),
    path_pattern=st.sampled_from(("", "", *PATTERNS)),
)
paths = st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=3).map(lambda parts: "/" + "".join(parts).lstrip("/"))


class Request:
    """A request as proxies match it."""

    def __init__(self, method, target, fields):
        self.method, self.target, self.client_headers = method.encode(), target.encode(), self
        self._fields = fields

    def get_all(self, name):
        return [value.encode() for key, value in self._fields if key == name.decode()]


requests = st.builds(
    Request,
    st.sampled_from(("GET", "POST")),
    st.builds(
        lambda path, query: f"{path}?{query}" if query else path,
        paths,
        st.sampled_from(("", "x-a=a", "x-a=b", "x-b=ab&x-a=x", "x-a=")),
    ),
    st.lists(st.tuples(names, st.sampled_from(VALUES)), max_size=3),
)


@given(matches, matches, requests)
def test_a_request_of_a_covered_match_meets_the_other_one(one, other, request):
    if covers(one, other) and CompiledMatch(other).holds(request):
        assert CompiledMatch(one).holds(request)


@given(matches, requests)
def test_no_request_meets_an_impossible_match(match, request):
    if find_impossible(match):
        assert not CompiledMatch(match).holds(request)


@given(matches)
def test_a_match_covers_itself(match):
    assert covers(match, match)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (HttpMatch(), HttpMatch(exact_path="/a", methods=("GET",))),
        (HttpMatch(paths=("/",)), HttpMatch(path_pattern="/x.+")),
        (HttpMatch(paths=("/a",)), HttpMatch(paths=("/ab",))),
        (HttpMatch(paths=("/a(/|$)",)), HttpMatch(path_prefix="/a/b")),
        (HttpMatch(path_pattern="/[a-z]+"), HttpMatch(exact_path="/abc")),
        (HttpMatch(path_prefix="/a"), HttpMatch(path_pattern="/a/[0-9]+")),
        (HttpMatch(methods=("GET", "POST")), HttpMatch(methods=("GET",))),
        (
            HttpMatch(headers=(HeaderMatch(name="a", pattern="x"),)),
            HttpMatch(headers=(HeaderMatch(name="a", value="axb"),)),
        ),
        (HttpMatch(headers=(HeaderMatch(name="a"),)), HttpMatch(headers=(HeaderMatch(name="a", pattern="x+"),))),
    ],
)
def test_a_wider_match_covers_a_narrower_one(one, other):
    assert covers(one, other)
    assert not covers(other, one)


@pytest.mark.parametrize("paths", ["/a(/|$)", "^/a(/|$)", "/a(?:/.*)?$"])
def test_matches_of_the_same_elements_cover_each_other(paths):
    one, other = HttpMatch(path_prefix="/a"), HttpMatch(paths=(paths,))
    assert covers(one, other)
    assert covers(other, one)


@pytest.mark.parametrize(
    ("match", "text"),
    [
        (HttpMatch(paths=("api",)), "no path matches 'api': a path begins with /"),
        (HttpMatch(paths=("/a$b",)), "no path matches '/a$b'"),
        (HttpMatch(paths=("/search\\?q=",)), "no path matches '/search\\\\?q=': a path does not contain the query"),
        (HttpMatch(path_pattern="/a b"), "no path matches '/a b'"),
        (HttpMatch(path_pattern="/ü"), "no path matches '/ü'"),
        (HttpMatch(headers=(HeaderMatch(name="a", pattern="x^"),)), "no value of the header a matches 'x^'"),
        (HttpMatch(methods=("GTE",)), "proxies refuse the method 'GTE', which is not registered; did you mean GET?"),
        (HttpMatch(exact_path="/a", paths=("/b",)), "no path meets all of its conditions on the path"),
    ],
)
def test_an_impossible_match_says_why(match, text):
    assert find_impossible(match) == text


@pytest.mark.parametrize("pattern", [*PATTERNS[:16], "(?i)/a", "\\Q/a\\E", "/\\pL", "/a\\b", "(?P<x>/a)", "x{0,1}/a"])
def test_what_may_match_is_not_called_impossible(pattern):
    assert find_impossible(HttpMatch(paths=(pattern,))) == ""


def test_the_known_methods_are_those_that_proxies_accept():
    assert {method.decode() for method in syntax.METHODS} == METHODS


@given(st.sampled_from(PATTERNS), paths)
def test_python_and_the_mesh_read_these_patterns_in_the_same_way(pattern, path):
    """The property tests above would show nothing if the patterns were refused."""
    request = Request("GET", path, [])
    assert CompiledMatch(HttpMatch(path_pattern=pattern)).holds(request) == bool(re.fullmatch(pattern, path))
