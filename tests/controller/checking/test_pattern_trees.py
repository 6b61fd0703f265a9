"""What patterns of paths compare; test_matches.py compares the claims with requests."""

import pytest

from maesh_core.controller.checking.pattern_trees import Shape, can_match, find_shape, parse_tree


@pytest.mark.parametrize(
    ("pattern", "mode", "shape"),
    [
        ("/a", "start", Shape("text", "/a")),
        ("^/a.*", "start", Shape("text", "/a")),
        ("/a\\.b$", "start", Shape("exact", "/a.b")),
        ("/a", "whole", Shape("exact", "/a")),
        ("/a.*", "whole", Shape("text", "/a")),
        ("/a(/|$)", "start", Shape("elements", "/a")),
        ("/a(?:/.*)?", "whole", Shape("elements", "/a")),
        ("/a[0-9]+", "start", Shape("pattern", "/a", "/a[0-9]+")),
        ("/a|/b", "whole", Shape("pattern", "/", "/a|/b", "whole")),
        ("(?i)/a", "start", Shape("pattern", "", "(?i)/a")),
        ("/a(?=b)", "start", Shape("pattern", "", "/a(?=b)")),
    ],
)
def test_a_pattern_has_a_shape(pattern, mode, shape):
    assert find_shape(pattern, mode) == shape


def test_what_python_does_not_read_is_not_analysed():
    assert parse_tree("/\\pL") is None
    assert parse_tree("(") is None
    assert parse_tree("[[a]b]") is None
    assert can_match("(", "whole", is_path=True)


@pytest.mark.parametrize("pattern", ["a^", "$a", "(a|b)^c"])
def test_anchors_in_the_middle_match_nothing(pattern):
    assert not can_match(pattern, "any", is_path=False)


@pytest.mark.parametrize("pattern", ["^a$", "a*^b", "(^|x)a", "a($|x)", "[^a]", "\\D"])
def test_other_anchors_may_match(pattern):
    assert can_match(pattern, "any", is_path=False)


@pytest.mark.parametrize("depth", [10, 60, 300, 1000])
def test_nested_groups_cost_no_more_than_others(depth):
    assert can_match(f"{'(' * depth}/a{')*' * depth}", "start", is_path=True)
    assert can_match(f"{'(b|' * depth}/a{')+' * depth}", "start", is_path=True)
    assert find_shape(f"{'(b|' * depth}/a{')+' * depth}", "start").kind == "pattern"
