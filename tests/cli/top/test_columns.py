"""The list's columns adapt to the width of the terminal."""

import pytest

from maesh_core.cli.top.columns import build_head, build_row, choose_layout
from maesh_core.cli.top.services import has_paths
from maesh_core.cli.top.spans import join_plain

from .sample import build_failing, build_report, build_service, build_window


def list_columns(width, longest=20):
    return [column.name for column in choose_layout(width, longest).columns]


def test_a_wide_terminal_has_every_column_and_the_trouble():
    layout = choose_layout(200, 20)
    assert len(layout.columns) == 8
    assert layout.trouble_width > 80


def test_80_columns_are_enough_for_nearly_everything():
    assert list_columns(80) == ["rate", "success", "p50", "p99", "retries", "limited", "denied"]


def test_a_narrow_terminal_keeps_rate_and_success():
    assert list_columns(40) == ["rate", "success"]
    assert list_columns(5) == []


@pytest.mark.parametrize("width", range(1, 200))
def test_no_row_is_wider_than_the_terminal(width):
    layout = choose_layout(width, 20)
    for service in build_report().services:
        assert sum(part.width for part in build_row(service, layout, is_total=False)) <= width


def test_an_arrow_marks_the_sorted_column_without_moving_it():
    layout = choose_layout(100, 20)
    plain = join_plain(build_head(layout, "health", is_reversed=False))
    marked = join_plain(build_head(layout, "rate", is_reversed=False))
    assert "RATE\u25bc" in marked
    assert plain.index("SUCCESS") == marked.index("SUCCESS")
    assert "SERVICE\u25b2" in join_plain(build_head(layout, "service", is_reversed=True))


def test_a_failing_service_is_red_and_one_without_traffic_dim():
    layout = choose_layout(200, 20)
    failing = build_row(build_failing(), layout, is_total=False)
    assert (failing[0].style, failing[2].style) == ("bad", "bad")
    idle = next(each for each in build_report().services if each.name == "idle")
    assert {part.style for part in build_row(idle, layout, is_total=False)} == {"dim"}
    assert build_row(build_service("a"), layout, is_total=True)[0].style == ""


def test_the_share_that_is_encrypted_has_a_column_only_if_a_service_has_encryption():
    plain, encrypted = build_service("a"), build_service("b", window=build_window(paths={"encrypted": 3, "clear": 1}))
    assert not has_paths([plain])
    assert has_paths([plain, encrypted])
    layout = choose_layout(200, 20, has_paths=True)
    assert "ENCRYPTED" in join_plain(build_head(layout, "health", is_reversed=False))
    row = build_row(encrypted, layout, is_total=False)
    assert (row[9].text.strip(), row[9].style) == ("75%", "warn")
    assert build_row(plain, layout, is_total=False)[9].text.strip() == "-"
