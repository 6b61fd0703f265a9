"""Matches as values: what they encode to, and how two become one."""

import msgspec
import pytest

from maesh_core.model.matches import HeaderMatch, HttpMatch, QueryMatch, combine_matches


def test_new_fields_leave_the_bytes_of_former_matches_alone() -> None:
    match = HttpMatch(paths=("/a",), methods=("GET",), headers=(HeaderMatch(name="x", pattern="1"),))
    assert msgspec.json.encode(match) == (b'{"paths":["/a"],"methods":["GET"],"headers":[{"name":"x","pattern":"1"}]}')


def test_a_combined_match_has_the_conditions_of_both() -> None:
    one = HttpMatch(exact_path="/a", queries=(QueryMatch(name="q", value="1"),), methods=("GET", "PUT"))
    other = HttpMatch(headers=(HeaderMatch(name="x", value="1"),), methods=("PUT",), exact_path="/a")
    assert combine_matches(one, other) == HttpMatch(
        exact_path="/a", queries=one.queries, headers=other.headers, methods=("PUT",)
    )
    assert combine_matches(one, HttpMatch(methods=("POST",))) is None


@pytest.mark.parametrize("field", ["exact_path", "path_prefix", "path_pattern"])
def test_two_conditions_that_one_match_cannot_hold_are_not_combined(field: str) -> None:
    with pytest.raises(ValueError, match="cannot be combined"):
        combine_matches(*(msgspec.structs.replace(HttpMatch(), **{field: path}) for path in ("/a", "/b")))
