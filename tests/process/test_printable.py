from hypothesis import given
from hypothesis import strategies as st

from maesh_core.process.printable import escape_unprintable, show_line, show_lines

HOSTILE = "red \x1b[31m\r\n2026-01-01 ERROR forged\x00\x9b2J\u202eback\u2028next"


def test_printable_text_stays_as_it_is():
    for show in (escape_unprintable, show_line, show_lines):
        assert show("a b: '\u00e9' \u2026") == "a b: '\u00e9' \u2026"
        assert show("") == ""


def test_unprintable_characters_are_escaped_as_in_a_literal():
    shown = r"red \x1b[31m\r\n2026-01-01 ERROR forged\x00\x9b2J\u202eback\u2028next"
    assert escape_unprintable(HOSTILE) == shown


def test_a_line_has_one_space_for_white_space_and_lines_keep_their_line_feeds():
    assert show_line("  a\r\n\tb\x1b ") == r"a b\x1b"
    assert show_lines("a\nb\r\x1b\n") == "a\nb\\r\\x1b\n"


@given(st.text())
def test_whatever_the_text_is_what_is_shown_is_printable(text):
    assert escape_unprintable(text).isprintable()
    assert show_line(text).isprintable()
    assert all(line.isprintable() for line in show_lines(text).split("\n"))
    assert show_lines(text).count("\n") == text.count("\n")
