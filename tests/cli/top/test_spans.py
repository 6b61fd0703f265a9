"""Lines of styled parts, which are safe for a terminal and have the width that is asked for."""

from hypothesis import given
from hypothesis import strategies as st

from maesh_core.cli.top.spans import Span, cut_line, fit, join_plain, lay_out_table, span, wrap_line


def test_control_characters_are_escaped():
    assert span("a\x1b[31m\n\u202e").text == "a\\x1b[31m\\n\\u202e"


def test_a_part_is_padded_or_cut():
    assert fit(Span("ab"), 4).text == "ab  "
    assert fit(Span("ab"), 4, is_right=True).text == "  ab"
    assert fit(Span("abcdef"), 4).text == "abc\u2026"
    assert fit(Span("abc"), 0).text == ""


@given(st.text(), st.integers(0, 40), st.booleans())
def test_a_fitted_part_has_exactly_its_width(text, width, is_right):
    assert fit(span(text), width, is_right=is_right).width == width


@given(st.lists(st.text(max_size=10)), st.integers(1, 40))
def test_a_cut_line_is_never_wider(texts, width):
    assert sum(part.width for part in cut_line([span(text) for text in texts], width)) <= width


def test_a_table_is_as_wide_as_its_cells():
    rows = [(span("long name"), span("1")), (span("a"), span("100"))]
    assert [join_plain(line) for line in lay_out_table(("NAME", "N"), rows, right=(1,))] == [
        "NAME         N",
        "long name    1",
        "a          100",
    ]


def test_a_message_is_wrapped_and_a_row_is_cut():
    assert [join_plain(line) for line in wrap_line([span("one two three", "bad")], 7)] == ["one two", "three"]
    assert [join_plain(line) for line in wrap_line([span("one two"), span(" three")], 9)] == ["one two \u2026"]
