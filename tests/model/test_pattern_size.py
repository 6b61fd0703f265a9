"""The size of a pattern after its counted repetitions are expanded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.model.pattern_size import PatternSize, has_folded_classes, measure_pattern


@pytest.mark.parametrize(
    ("pattern", "total", "variable"),
    [
        ("", 1, 0),
        ("abc", 3, 0),
        ("[a-f0-9]{64}", 64, 0),
        (".{0,253}", 253, 253),
        ("x{5,5}", 5, 0),
        ("x{2,}", 2, 2),
        ("x{0}", 1, 0),
        ("a**", 1, 1),
        ("(ab)*", 2, 2),
        ("((((x{10}){10}){10}))", 1000, 0),
        ("(.*a){1000}", 2000, 1000),
        ("((){100}){100}", 10000, 0),
        ("(?i:ab){2}(?P<n>c){3}(?<m>d){4}(?:e){5}", 16, 0),
        ("(?i)a{2}", 3, 0),
        (r"\Q({5}\E{3}", 6, 0),
        (r"(\Q)\E.*a){1000}", 3000, 1000),
        (r"[]a]{3}[^]]{4}[[:alpha:]]{5}[\]x]{6}", 18, 0),
        (r"\x{61}{7}\x41{8}\101{9}\\{10}\d{11}", 45, 0),
        (r"\pL{5}\P{Greek}{6}", 11 * 301, 0),
        (r"[\pL\\pL\P{Greek}]{2}", 2 * 601, 0),
        ("a{,2}", 5, 0),
        ("a{b", 3, 0),
        ("{3}", 1, 0),
        ("a|b*", 2, 1),
        ("x{999999999}", 999999999, 0),
    ],
)
def test_counted_repetitions_are_multiplied(pattern: str, total: int, variable: int) -> None:
    assert measure_pattern(pattern) == PatternSize(total, variable)


@pytest.mark.parametrize(
    "text", ["[", "[\\", "\\", "(", ")", "*", "[" * 2000, "(" * 4000, "[\\p{a}" * 600, "\\Q", "(?P<"]
)
def test_what_is_no_pattern_is_measured_too(text: str) -> None:
    assert measure_pattern(text).total >= 1


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (r"(?i)\pL", True),
        (r"(?s-i)(?mi:[^\PN])", True),
        (r"\p{Greek}(?U)(?i)x", True),
        (r"(?i)\\pL", False),
        (r"(?i)[a-z]", False),
        (r"(?s)\pL(?P<i>x)(i)(?:i)", False),
        (r"\Q(?i)\E\pL", False),
    ],
)
def test_classes_of_unicode_that_ignore_case_are_found(pattern: str, expected: bool) -> None:
    assert has_folded_classes(pattern) is expected


Part = tuple[str, int]

ATOMS: st.SearchStrategy[Part] = st.sampled_from(
    [("a", 1), (".", 1), ("[a-z]", 1), (r"\.", 1), (r"\d", 1), ("[)(]", 1), (r"\Q{2}\E", 3)]
)


def repeat(parts: list[Part]) -> st.SearchStrategy[Part]:
    """Build a sequence of parts as a group that is repeated; a pattern and its sizes."""
    pattern, total = "".join(each[0] for each in parts), sum(each[1] for each in parts)
    return st.sampled_from(
        [
            (f"({pattern})", total),
            (f"(?:{pattern}){{3}}", total * 3),
            (f"({pattern}){{2,5}}", total * 5),
            (f"(?i:{pattern})*", total),
        ]
    )


PATTERNS = st.recursive(ATOMS, lambda inner: st.lists(inner, min_size=1, max_size=3).flatmap(repeat), max_leaves=12)


@given(st.lists(PATTERNS, min_size=1, max_size=4))
def test_the_size_of_a_pattern_is_that_of_its_parts(parts: list[Part]) -> None:
    size = measure_pattern("".join(each[0] for each in parts))
    assert size.total == sum(each[1] for each in parts)
    assert size.variable <= size.total


@given(st.text(alphabet="ab(){}[]*+?|\\QE^:,.019pxP<>-", max_size=60))
def test_any_text_is_measured(text: str) -> None:
    assert measure_pattern(text).total >= 1
