"""Every sample of a pattern is matched by RE2, and each alternative of a pattern has one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.controller.comparing.samples import SAMPLES_LIMIT, sample_pattern
from maesh_core.model.patterns import compile_pattern, is_literal


@pytest.mark.parametrize(
    ("pattern", "samples"),
    [
        ("/a", ["/a"]),
        (".*", ["x", ""]),
        ("/(a|b)/x?$", ["/a/x", "/b/x", "/a/"]),
        ("/users/[0-9]{2,}", ["/users/11", "/users/111", "/users/00", "/users/99"]),
        ("/(products|stock)$", ["/products", "/stock"]),
        ("/x[^a-z]", ["/x1"]),
        (r"/v\d/.+", ["/v1/x", "/v1/xx"]),
        ("(?i)/abc", ["/abc"]),
    ],
)
def test_samples_are_short_and_cover_alternatives(pattern, samples):
    assert sample_pattern(pattern) == samples


@pytest.mark.parametrize(
    "pattern", ["(", r"\pL", "a{1000}b", "(?P<x", "[[:alpha:]]+x", r"\Qa.b\E", "(" * 500 + ")" * 500]
)
def test_unusual_patterns_have_no_samples(pattern):
    assert sample_pattern(pattern) == []


@given(st.text(alphabet="ab/.*+?()[]|^$0-9{},\\d", max_size=20))
def test_any_pattern_has_a_limited_number_of_samples_that_match(pattern):
    found = sample_pattern(pattern)
    assert len(found) <= SAMPLES_LIMIT
    if not is_literal(pattern):
        assert all(compile_pattern(pattern).match(each.encode()) for each in found)
