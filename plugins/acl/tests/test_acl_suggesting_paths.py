"""Patterns of observed paths: exact, or with variables if there is enough evidence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from maesh_acl.suggesting.paths import (
    EVIDENCE,
    SEGMENT_LIMIT,
    build_patterns,
    build_prefix,
    escape,
    parse_template,
)

from maesh_core.plugin import ConfigurationError, HttpMatch, compile_matches

TEXTS = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="?"), max_size=12)
PATHS = st.lists(TEXTS, max_size=5).map(lambda parts: "/" + "/".join(parts))


class Get:
    """A request for a path."""

    method = b"GET"

    def __init__(self, path):
        self.target = path.encode()


def matches(pattern, path):
    """Whether a rule with a pattern, written as an HTTPRouteGroup has it, matches a path."""
    anchored = f"/{pattern}" if pattern[:1].isalnum() else pattern
    return compile_matches([HttpMatch(paths=(anchored,))])(Get(path))


def list_patterns(paths, **options):
    return {each.pattern for each in build_patterns(paths, **options).values()}


@given(st.lists(PATHS, min_size=1, max_size=20))
def test_each_path_is_matched_by_its_pattern_and_no_path_below_it(paths):
    for path, found in build_patterns(paths).items():
        assert matches(found.pattern, path)
        assert matches(found.pattern, f"{path}?x=1")
        assert not matches(found.pattern, f"{path}/more")


@given(st.lists(PATHS, min_size=1, max_size=20), PATHS)
def test_without_evidence_a_pattern_matches_one_path_only(paths, other):
    for path, found in build_patterns(paths, evidence=0).items():
        assert matches(found.pattern, other) is (path == other)
        assert not found.is_template


@given(PATHS, TEXTS)
def test_a_prefix_matches_what_begins_with_it(path, more):
    assert matches(build_prefix(path).pattern, path + more)


@given(TEXTS)
def test_escaped_text_means_itself(text):
    assert matches(f"/{escape(text)}$", f"/{text}")


@pytest.mark.parametrize(
    ("values", "pattern", "other"),
    [
        ([str(number) for number in range(17, 17 + EVIDENCE)], "/users/[0-9]+$", "/users/4711"),
        (
            [f"{number:08x}-0000-4000-8000-00000000000{number}" for number in range(EVIDENCE)],
            "/users/[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$",
            "/users/ffffffff-0000-4000-8000-000000000009",
        ),
        ([f"5f9ab3{number}c" for number in range(EVIDENCE)], "/users/[0-9A-Fa-f]{8,}$", "/users/0a1b2c3d4e5f"),
        (
            [f"01HZX{number}K9QTTVXWYZ_G" for number in range(EVIDENCE)],
            "/users/[0-9A-Za-z_-]{16,}$",
            "/users/01HZXYK9QTTVXWYZ_H",
        ),
    ],
)
def test_enough_identifiers_of_one_kind_become_a_variable(values, pattern, other):
    paths = [f"/users/{value}" for value in values]
    assert list_patterns(paths) == {pattern}
    assert matches(pattern, other)
    assert not matches(pattern, f"{other}/keys")
    assert len(list_patterns(paths[1:])) == EVIDENCE - 1, "one less is not enough"


def test_words_and_names_of_versions_stay_as_they_are():
    paths = [f"/{word}" for word in ("users", "orders", "carts", "items", "stock", "prices", "v1", "v2", "v3", "v4")]
    assert list_patterns(paths) == {f"{path}$" for path in paths}


def test_evidence_is_counted_at_one_place():
    paths = [f"/a{number}/{number}" for number in range(EVIDENCE)]
    assert not any(each.is_template for each in build_patterns(paths).values())


def test_what_is_below_a_variable_is_joined():
    paths = [f"/users/{number}/{what}" for number in range(EVIDENCE) for what in ("keys", "mail")]
    assert list_patterns(paths) == {"/users/[0-9]+/keys$", "/users/[0-9]+/mail$"}


def test_a_template_that_was_written_needs_no_evidence():
    templates = [parse_template("/users/{name}/keys")]
    paths = ["/users/ann/keys", "/users/bob/keys/3", "/users/bob", "/groups/ann/keys", "/users//keys"]
    found = build_patterns(paths, templates=templates)
    assert [found[path].pattern for path in paths] == [
        "/users/[^/]+/keys$",
        "/users/[^/]+/keys/3$",
        "/users/bob$",
        "/groups/ann/keys$",
        "/users//keys$",
    ]
    assert found[paths[0]].label == "/users/{any}/keys"


def test_a_template_that_was_written_comes_before_evidence():
    paths = [f"/users/{number}" for number in range(EVIDENCE)]
    assert list_patterns([*paths, "/users/ann"], templates=[parse_template("/users/{name}")]) == {"/users/[^/]+$"}


@pytest.mark.parametrize("text", ["users/{id}", "/users", "/users/x{id}", "/users/{}", "/{id}/{", "/" + "{a}/" * 500])
def test_a_template_is_a_path_with_whole_segments_as_variables(text):
    with pytest.raises(ConfigurationError, match="template"):
        parse_template(text)


def test_a_path_that_does_not_begin_with_a_slash_is_matched_as_it_is():
    assert matches(build_patterns(["*"])["*"].pattern, "*")
    found = build_patterns(["http://a/b"])["http://a/b"].pattern
    assert matches(found, "http://a/b")
    assert not matches(found, "/http://a/b")


def test_a_path_with_very_many_segments_is_matched_exactly():
    path = "/1" * (SEGMENT_LIMIT * 50)
    assert build_patterns([path])[path].pattern == f"{path}$"
