"""Users' patterns are RE2's: those that it cannot run are refused with a reason."""

import pytest

from maesh_core.model.patterns import (
    PATTERN_LIMIT_CHARACTERS,
    compile_pattern,
    find_pattern_problem,
    is_literal,
    weigh_pattern,
)


@pytest.mark.parametrize("pattern", ["(", "a(?=b)", "[z-a]", r"\1"])
def test_a_pattern_that_cannot_run_in_linear_time_or_is_malformed_has_a_problem(pattern: str) -> None:
    assert "is not a valid pattern" in (find_pattern_problem(pattern) or "")
    with pytest.raises(ValueError, match="is not a valid pattern"):
        compile_pattern(pattern)


def test_a_pattern_has_a_limit_of_characters() -> None:
    assert find_pattern_problem("x" * PATTERN_LIMIT_CHARACTERS) is None
    assert "longer than 4096" in (find_pattern_problem("x" * (PATTERN_LIMIT_CHARACTERS + 1)) or "")


@pytest.mark.parametrize(("pattern", "expected"), [("/api-1/x_y", True), ("/a.b", False), ("^a", False), ("", True)])
def test_a_literal_has_no_operators(pattern: str, expected: bool) -> None:
    assert is_literal(pattern) is expected


@pytest.mark.parametrize("pattern", ["x{1000}" * 5, "(?:[a-z]{30}){140}", "((a{100}){10}b){5}"])
def test_a_pattern_that_expands_too_much_is_refused_before_it_is_compiled(pattern: str) -> None:
    assert "its repetitions expand to more than 4096 characters" in (find_pattern_problem(pattern) or "")
    with pytest.raises(ValueError, match="is too large"):
        compile_pattern(pattern)


@pytest.mark.parametrize("pattern", ["(.*a){1000}", ".{0,301}", "(.*a)" * 301, "(a?){301}"])
def test_a_pattern_with_too_many_variable_characters_is_refused(pattern: str) -> None:
    assert "more than 300 of its characters may repeat or be absent" in (find_pattern_problem(pattern) or "")


@pytest.mark.parametrize("pattern", [r"(?i)\pL", "(?i)" + r"\pL" * 1000])
def test_a_class_of_unicode_that_ignores_case_is_refused_before_it_is_compiled(pattern: str) -> None:
    assert "has a class of Unicode" in (find_pattern_problem(pattern) or "")
    with pytest.raises(ValueError, match="takes too long"):
        compile_pattern(pattern)


@pytest.mark.parametrize("pattern", [r"\pL" * 14, r"[\pL\pN]{7}", r"[%s]" % (r"\pL" * 14)])
def test_many_classes_of_unicode_are_too_large(pattern: str) -> None:
    assert "is too large" in (find_pattern_problem(pattern) or "")


@pytest.mark.parametrize(
    ("pattern", "count"), [("/v[0-9]+/.*", 1), ("[a-f0-9]{64}", 2), ("x{4096}", 65), ("x" * 4096, 1), (r"\pL", 5)]
)
def test_a_large_pattern_counts_as_several(pattern: str, count: int) -> None:
    assert weigh_pattern(pattern) == count


@pytest.mark.parametrize("pattern", ["[a-f0-9]{64}", "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", "/v[0-9]+/.*", ".{1,255}"])
def test_usual_repetitions_are_allowed(pattern: str) -> None:
    assert find_pattern_problem(pattern) is None
