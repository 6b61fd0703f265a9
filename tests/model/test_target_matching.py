"""Conditions on path and query: one expression and the plain reading of the rules come to the same answer."""

from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.model.matches import HttpMatch, QueryMatch
from maesh_core.model.target_matching import TargetCondition, has_path_conditions, parse_parameters

PATHS = st.text(alphabet="ab/%+", max_size=5).map(lambda rest: "/" + rest)
NAMES = st.text(alphabet="ab=&+% é", min_size=1, max_size=2)
VALUES = st.text(alphabet="ab=&+% é", max_size=2)
QUERIES = st.text(alphabet="ab=&+%62é", max_size=14)
MATCHES = st.builds(
    HttpMatch,
    paths=st.lists(PATHS.map(lambda path: path.replace("+", "a")), max_size=1).map(tuple),
    exact_path=st.just("") | PATHS,
    path_prefix=st.just("") | PATHS.map(lambda path: path.rstrip("/")),
    path_pattern=st.sampled_from(["", "/a", "/a.*", "/(a|b)/?"]),
    queries=st.lists(
        st.builds(QueryMatch, name=NAMES, value=VALUES)
        | st.builds(QueryMatch, name=NAMES, pattern=st.sampled_from("ab")),
        max_size=2,
    ).map(tuple),
)


def is_met(match: HttpMatch, path: bytes, query: bytes) -> bool:
    """Read the conditions as they are documented, one by one."""
    text = path.decode()
    if any(not text.startswith(each) for each in match.paths):
        return False
    if match.exact_path and text != match.exact_path:
        return False
    if match.path_prefix and not f"{text}/".startswith(f"{match.path_prefix}/"):
        return False
    if match.path_pattern:
        import re

        if not re.fullmatch(match.path_pattern, text):
            return False
    found: dict[str, str] = {}
    for name, value in parse_qsl(query.decode(), keep_blank_values=True, errors="surrogateescape"):
        found.setdefault(name, value)
    for each in match.queries:
        wanted = each.pattern if each.value is None else each.value
        if found.get(each.name) != wanted:
            return False
    return True


@given(MATCHES, PATHS, st.none() | QUERIES)
def test_a_target_is_matched_as_the_plain_reading_says(match: HttpMatch, path: str, query: str | None) -> None:
    target = path.encode() if query is None else f"{path}?{query}".encode()
    expected = is_met(match, path.encode(), (query or "").encode())
    condition = TargetCondition(match)
    assert condition.holds(target) is expected
    parameters = parse_parameters((query or "").encode(), condition.names)
    assert condition.holds_parsed(path.encode(), parameters) is expected


@pytest.mark.parametrize(
    ("prefix", "path", "expected"),
    [
        ("/abc", b"/abc", True),
        ("/abc", b"/abc/", True),
        ("/abc", b"/abc/d", True),
        ("/abc", b"/abcd", False),
        ("/abc", b"/abc?d", True),
        ("/abc", b"/ABC", False),
        ("/abc", b"/a?/abc", False),
    ],
)
def test_a_prefix_is_compared_by_elements(prefix: str, path: bytes, expected: bool) -> None:
    assert TargetCondition(HttpMatch(path_prefix=prefix)).holds(path) is expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/?color=blue", True),
        (b"/?x=1&color=blue&y", True),
        (b"/?color=red&color=blue", False),
        (b"/?color=blue&color=red", True),
        (b"/?xcolor=blue", False),
        (b"/?color=blues", False),
        (b"/?%63olor=bl%75e", True),
        (b"/?colo%72=red&color=blue", False),
        (b"/?color", False),
        (b"/color=blue", False),
        (b"/", False),
    ],
)
def test_the_first_value_of_a_parameter_counts(target: bytes, expected: bool) -> None:
    assert TargetCondition(HttpMatch(queries=(QueryMatch(name="color", value="blue"),))).holds(target) is expected


def test_a_plus_is_a_space_and_a_parameter_without_a_value_is_empty() -> None:
    match = HttpMatch(queries=(QueryMatch(name="a", value="b c"), QueryMatch(name="d", value="")))
    assert TargetCondition(match).holds(b"/?a=b+c&d")
    assert TargetCondition(match).holds(b"/?a=b%20c&d=")
    assert not TargetCondition(match).holds(b"/?a=b+c&d=1")


def test_a_pattern_matches_a_whole_path_and_a_whole_value() -> None:
    match = HttpMatch(path_pattern="/v[0-9]+", queries=(QueryMatch(name="a", pattern="x+"),))
    assert TargetCondition(match).holds(b"/v12?a=xx")
    assert not TargetCondition(match).holds(b"/v12/?a=xx")
    assert not TargetCondition(match).holds(b"/v12?a=xxy")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("piece", [b"a&", b"a", b"color&", b"colo=blue&", b"color", b"&", b"="])
def test_a_long_query_does_not_take_long(piece: bytes) -> None:
    match = HttpMatch(queries=tuple(QueryMatch(name=name, value="blue") for name in ("color", "colour", "col")))
    assert not TargetCondition(match).holds(b"/?" + piece * (64_000 // len(piece)))


def test_only_conditions_on_the_path_read_it() -> None:
    assert has_path_conditions(HttpMatch(path_prefix="/a"))
    assert has_path_conditions(HttpMatch(exact_path="/"))
    assert not has_path_conditions(HttpMatch(queries=(QueryMatch(name="a", value="b"),), methods=("GET",)))
