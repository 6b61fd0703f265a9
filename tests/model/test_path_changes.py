"""Annotations and path modifiers in, changed targets out."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.model.matches import HeaderMatch, HttpMatch
from maesh_core.model.path_changes import (
    PathChange,
    PathChanger,
    PathModifier,
    build_path_change,
    read_path_change,
)
from maesh_core.plugin import ConfigurationError, is_ambiguous


def replace_prefix(prefix, replacement):
    """Build the change of a filter whose rule matches a prefix, as the Gateway API writes it."""
    match = HttpMatch(path_prefix=prefix.rstrip("/"))
    return build_path_change(PathModifier(type="ReplacePrefixMatch", replace_prefix_match=replacement), [match])


def replace_full(path):
    return build_path_change(PathModifier(type="ReplaceFullPath", replace_full_path=path), [])


def read(path=None, prefix=None):
    annotations = {name: text for name, text in (("x-path", path), ("x-prefix", prefix)) if text is not None}
    return read_path_change(annotations, path="x-path", prefix="x-prefix")


@pytest.mark.parametrize(
    ("path", "prefix", "replacement", "expected"),
    [
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "", "/bar"),
        ("/foo/", "/foo", "", "/"),
        ("/foo", "/foo", "", "/"),
        ("/foo/", "/foo", "/", "/"),
        ("/foo", "/foo", "/", "/"),
        ("/test", "/", "/foo", "/foo/test"),
        ("/", "/", "/foo", "/foo/"),
        ("/test", "/", "/", "/test"),
        ("/foo/a/b/", "/foo/a", "/x/y", "/x/y/b/"),
        ("/foo/%41+b", "/foo", "/x%2B", "/x%2B/%41+b"),
    ],
)
def test_prefixes_are_replaced_as_in_the_table_of_the_gateway_api(path, prefix, replacement, expected):
    changer = PathChanger(replace_prefix(prefix, replacement))
    assert changer.change(path.encode()) == expected.encode()
    assert changer.change(path.encode() + b"?a=/foo&b=?c") == expected.encode() + b"?a=/foo&b=?c"


@pytest.mark.parametrize("path", [b"/footest", b"/fo", b"/", b"/x/foo", b"/foo%2Fbar", b"*", b"/Foo"])
def test_a_path_without_the_prefix_is_not_changed(path):
    assert PathChanger(replace_prefix("/foo", "/xyz")).change(path) is None


def test_a_target_that_is_no_path_has_no_prefix():
    assert PathChanger(replace_prefix("/", "/xyz")).change(b"*") is None


def test_a_whole_path_is_replaced_and_the_query_kept():
    changer = PathChanger(replace_full("/new"))
    assert [changer.change(target) for target in (b"/", b"/a/b?c=d", b"/?", b"*")] == [
        b"/new",
        b"/new?c=d",
        b"/new?",
        b"/new",
    ]
    assert PathChanger(replace_full("")).change(b"/a") == b"/"
    assert (PathChanger(replace_full("/x")).is_prefix, PathChanger(replace_prefix("/", "")).is_prefix) == (False, True)


def test_a_rule_without_matches_or_without_a_path_has_the_prefix_of_all_paths():
    modifier = PathModifier(type="ReplacePrefixMatch", replace_prefix_match="/a")
    match = HttpMatch(headers=(HeaderMatch(name="x", value="1"),))
    assert build_path_change(modifier, []) == build_path_change(modifier, [match]) == PathChange(replacement="/a")


@pytest.mark.parametrize(
    ("modifier", "text"),
    [
        ({}, "path.type: '' is not ReplaceFullPath or ReplacePrefixMatch"),
        ({"type": "ReplaceRegex"}, "path.type: 'ReplaceRegex' is not"),
        ({"type": "ReplaceFullPath"}, "path: ReplaceFullPath needs replaceFullPath"),
        ({"type": "ReplaceFullPath", "replacePrefixMatch": "/a"}, "path: ReplaceFullPath needs replaceFullPath"),
        ({"type": "ReplacePrefixMatch"}, "path: ReplacePrefixMatch needs replacePrefixMatch"),
        (
            {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/a", "replaceFullPath": "/b"},
            "path: ReplacePrefixMatch needs replacePrefixMatch, and nothing else",
        ),
        ({"type": "ReplaceFullPath", "replaceFullPath": "a"}, "path.replaceFullPath: 'a' is not a path"),
        ({"type": "ReplacePrefixMatch", "replacePrefixMatch": "//a"}, "path.replacePrefixMatch: '//a' is not a path"),
    ],
)
def test_a_modifier_that_is_not_complete_is_an_error(modifier, text):
    with pytest.raises(ConfigurationError) as caught:
        build_path_change(msgspec.convert(modifier, PathModifier), [])
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    "matches",
    [
        [HttpMatch(path_prefix="/a"), HttpMatch(path_prefix="/b")],
        [HttpMatch(exact_path="/a")],
        [HttpMatch(path_pattern="/a.*")],
        [HttpMatch(paths=("/a",))],
    ],
)
def test_a_prefix_is_replaced_only_if_the_rule_has_exactly_one(matches):
    with pytest.raises(ConfigurationError, match="ReplacePrefixMatch needs"):
        build_path_change(PathModifier(type="ReplacePrefixMatch", replace_prefix_match="/a"), matches)


BAD = [
    "a",
    "http://evil.example/",
    "//evil.example",
    "/a//b",
    "/a/../b",
    "/a/.",
    "/a/%2e%2e/b",
    "/a%2fb",
    "/a\\b",
    "/a?b",
    "/a#b",
    "/a b",
    "/a%zz",
    "/a\r\nLocation: b",
    "/caf\xe9",
    "/a\x00",
    "/" + "a" * 1024,
]


@pytest.mark.parametrize("path", BAD)
def test_a_replacement_that_a_server_or_a_browser_could_misread_is_an_error(path):
    for build in (replace_full, lambda path: replace_prefix("/a", path), read, lambda path: read(prefix=path)):
        with pytest.raises(ConfigurationError, match="is not a path that starts with /"):
            build(path)


def test_annotations_replace_a_whole_path_or_a_prefix_or_remove_a_prefix():
    assert read() is None
    assert read(path="/new/") == PathChange(full="/new/")
    assert read(path="/new/", prefix="/old/") == PathChange(prefix="/old", replacement="/new")
    assert read(path="/new", prefix="/") == PathChange(replacement="/new")
    assert read(prefix="/old") == PathChange(prefix="/old")


@pytest.mark.parametrize(
    ("annotations", "text"),
    [
        ({"path": ""}, "annotation x-path: '' is not a path"),
        ({"path": "/a b"}, "annotation x-path: '/a b' is not a path"),
        ({"path": "/a", "prefix": ""}, "annotation x-prefix: '' is not a path"),
        ({"path": "a", "prefix": "/b"}, "annotation x-path: 'a' is not a path"),
    ],
)
def test_a_bad_annotation_is_an_error_that_names_it(annotations, text):
    with pytest.raises(ConfigurationError) as caught:
        read(**annotations)
    assert str(caught.value).startswith(text)


_PATHS = st.lists(st.sampled_from(["", "a", "b", "ab", "%41", "."]), max_size=4).map(
    lambda parts: "/" + "/".join(parts)
)


@given(_PATHS, _PATHS, _PATHS, st.sampled_from(["", "?", "?a=b"]))
def test_a_changed_target_keeps_its_query_and_has_the_replacement_and_the_rest_of_the_path(path, prefix, new, query):
    with contextlib.suppress(ConfigurationError):
        changer = PathChanger(replace_prefix(prefix, new))
        changed = changer.change((path + query).encode())
        elements, expected = path.split("/")[1:], prefix.split("/")[1:]
        while expected and not expected[-1]:
            expected.pop()
        has_prefix = elements[: len(expected)] == expected
        assert (changed is not None) == has_prefix
        if changed is not None:
            changed_path, mark, rest = changed.decode().partition("?")
            assert mark + rest == query
            assert changed_path.startswith("/")
            left = elements[len(expected) :]
            assert changed_path == (new.rstrip("/") + "".join(f"/{each}" for each in left) or "/")
            if not is_ambiguous(path.encode()):
                assert not is_ambiguous(changed)


@given(st.text(max_size=30))
def test_any_text_is_a_change_or_an_error(text):
    for names in ({"path": text}, {"prefix": text}, {"path": text, "prefix": "/a"}):
        with contextlib.suppress(ConfigurationError):
            changed = PathChanger(read(**names)).change(b"/a/b?c")
            assert changed is None or (changed.startswith(b"/") and not changed.startswith(b"//"))
