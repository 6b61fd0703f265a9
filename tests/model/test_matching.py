"""Conditions on requests: literal ones and patterns, each as Maesh means them, and in linear time."""

import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.model.matches import HeaderMatch, HttpMatch
from maesh_core.model.matching import compile_matches, find_match_problem, is_ambiguous
from maesh_testing import FakeExchange


def holds(match, method=b"GET", target=b"/", headers=None):
    return compile_matches((match,))(FakeExchange(method, target, headers=headers))


@pytest.mark.parametrize(
    ("pattern", "target", "is_met"),
    [
        ("/api", b"/api", True),
        ("/api", b"/api/v1?x=/admin", True),
        ("/api", b"/apis", True),  # open at the end
        ("/api", b"/v1/api", False),  # anchored at the start
        ("/api", b"/API", False),
        ("/api", b"/?/api", False),
        ("/api/.*", b"/api/x", True),
        ("/api/.*", b"/api", False),
        (".*", b"/anything", True),
        ("/", b"/anything", True),
        ("/api$", b"/api?x", True),
        ("/api$", b"/api/", False),
        ("^/api", b"/api", True),
        ("/v[0-9]+/(a|b)", b"/v12/b/c", True),
        ("/v[0-9]+/(a|b)", b"/x/v12/b", False),
        ("/v[0-9]+$", b"/v1?q", True),
        ("/a.c", b"/abc", True),
        ("/a\\.c", b"/abc", False),
        ("", b"/x", True),
    ],
)
def test_a_path_is_matched_from_its_start_without_the_query(pattern, target, is_met):
    assert holds(HttpMatch(paths=(pattern,)), target=target) is is_met


@pytest.mark.parametrize(
    ("pattern", "values", "is_met"),
    [
        ("beta", {b"X-Group": b"users of beta"}, True),
        ("^beta$", {b"X-Group": b"beta"}, True),
        ("^beta$", {b"X-Group": b"users of beta"}, False),
        ("beta", {}, False),
        ("", {b"x-group": b"any"}, True),
        (".*Firefox.*", {b"x-group": b"Mozilla Firefox 1"}, True),
    ],
)
def test_a_header_is_searched(pattern, values, is_met):
    match = HttpMatch(headers=(HeaderMatch(name="x-group", pattern=pattern),))
    assert holds(match, headers=values) is is_met


def test_all_conditions_of_a_match_must_hold_and_one_match_is_enough():
    both = HttpMatch(paths=("/api",), methods=("GET", "HEAD"), headers=(HeaderMatch(name="x", pattern="1"),))
    assert holds(both, b"HEAD", b"/api/a", {b"X": b"1"})
    assert not holds(both, b"POST", b"/api/a", {b"X": b"1"})
    assert not holds(both, b"GET", b"/", {b"X": b"1"})
    assert not holds(both, b"GET", b"/api/a", {b"X": b"2"})
    either = compile_matches((both, HttpMatch(methods=("PUT",))))
    assert either(FakeExchange(b"PUT", b"/"))
    assert not either(FakeExchange(b"POST", b"/"))


@pytest.mark.parametrize("matches", [(), (HttpMatch(),), (HttpMatch(paths=("/a",)), HttpMatch())])
def test_an_empty_match_is_for_everything_and_stays_so_beside_others(matches):
    assert compile_matches(matches)(FakeExchange(b"DELETE", b"/b"))


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [("(", r"missing \)"), ("a(?=b)", "perl"), ("[z-a]", "range")],
)
def test_a_pattern_that_cannot_be_used_says_why(pattern, reason):
    assert re.search(reason, find_match_problem((HttpMatch(paths=(pattern,)),)))
    assert re.search(reason, find_match_problem((HttpMatch(headers=(HeaderMatch(name="x", pattern=pattern),)),)))
    with pytest.raises(ValueError, match=reason):
        compile_matches((HttpMatch(paths=(pattern + ".*x",)),))


def test_a_pattern_that_is_too_long_is_refused_before_it_is_compiled():
    assert "longer than 4096" in find_match_problem((HttpMatch(paths=("x" * 4097,)),))


@pytest.mark.timeout(60)
def test_no_pattern_takes_long_whatever_it_is_given():
    match = HttpMatch(paths=("/(a*)*b|(a|aa)+$|(.*)*x",), headers=(HeaderMatch(name="x", pattern="((a+)+)+!$"),))
    assert not holds(match, target=b"/" + b"a" * 60_000 + b"!", headers={b"x": b"a" * 60_000})


@given(st.text(alphabet="ab/.%-", max_size=6), st.text(alphabet="ab/.%-?", max_size=8))
def test_a_literal_is_what_the_engine_says_of_it(text, rest):
    target = b"/" + rest.encode()
    literal = "/" + text.replace(".", "-")
    expected = re.match(re.escape(literal), target.decode().partition("?")[0]) is not None
    assert holds(HttpMatch(paths=(literal,)), target=target) is expected


@pytest.mark.parametrize(
    "target",
    [
        b"/a/../b",
        b"/./a",
        b"/a/..",
        b"/a/.",
        b"//a",
        b"/a//b",
        b"/%2e%2E/a",
        b"/a%2Fb",
        b"/a%5cb",
        b"/a%00",
        b"/.%2e/a",
    ],
)
def test_a_path_that_a_server_could_read_otherwise_is_ambiguous(target):
    assert is_ambiguous(target)
    assert not is_ambiguous(b"/ok?" + target)


@pytest.mark.parametrize("target", [b"/", b"/a.b/..c/d..", b"/a;x=1/b", b"/%41", b"/a%20b", b"/...", b"*"])
def test_other_paths_are_not(target):
    assert not is_ambiguous(target)


def test_the_engine_is_loaded_by_the_first_pattern_that_needs_it(run_python):
    code = (
        "import sys; from maesh_core.model.matching import compile_matches;"
        "from maesh_core.model.matches import HttpMatch;"
        "compile_matches((HttpMatch(paths=('/api',), methods=('GET',)),)); assert 're2' not in sys.modules;"
        "compile_matches((HttpMatch(paths=('/a+',)),)); assert 're2' in sys.modules"
    )
    run_python(code)


@pytest.fixture
def run_python():
    import subprocess

    return lambda code: subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
