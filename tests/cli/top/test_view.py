"""Keys change what is shown."""

import pytest

from maesh_core.cli.top.services import SORT_ORDER
from maesh_core.cli.top.view import View

from .sample import build_report, build_service, build_window


@pytest.fixture
def view():
    view = View("http://x")
    view.apply_report(build_report(), 100.0)
    return view


def press(view, *keys):
    for key in keys:
        view.press(key)


def list_names(view):
    return [each.name for each in view.rows]


def test_arrows_select_and_enter_opens_and_escape_goes_back(view):
    press(view, "down", "enter")
    assert view.opened == "shop/limited:80"
    assert view.find_opened().name == "limited"
    press(view, "escape")
    assert view.opened is None
    assert view.rows[view.selected_row].name == "limited"


def test_the_selection_stays_within_the_list(view):
    press(view, "up")
    assert view.selected_row == 0
    press(view, "end", "down")
    assert view.selected_row == 9
    view.page_rows = 4
    press(view, "page-up", "k")
    assert view.selected_row == 5
    press(view, "home")
    assert view.selected_row == 0


def test_a_service_stays_selected_when_the_order_changes(view):
    press(view, "end")
    assert view.rows[view.selected_row].name == "idle"
    busy = build_report(build_service("idle", window=build_window(99.0, 0.1)), build_service("other"))
    view.apply_report(busy, 101.0)
    assert (view.selected_row, list_names(view)) == (0, ["idle", "other"])


def test_s_goes_through_the_columns_and_r_reverses(view):
    seen = []
    for _ in SORT_ORDER:
        press(view, "s")
        seen.append(view.sort)
    assert sorted(seen) == sorted(SORT_ORDER)
    before = list_names(view)
    press(view, "r")
    assert list_names(view) == before[::-1]


def test_a_filter_is_typed_and_kept_or_removed(view):
    press(view, "/", *"quietX", "backspace", "q")
    assert (view.is_filtering, view.filter_text, view.is_ended) == (True, "quietq", False)
    press(view, "clear", *"quiet", "enter")
    assert not view.is_filtering
    assert len(list_names(view)) == 6
    press(view, "/", "down", "escape")
    assert (view.is_filtering, len(view.rows)) == (False, 10)
    press(view, "/", *"db", "enter", "enter")
    assert view.opened == "shop/db:5432"
    press(view, "escape", "escape")
    assert view.filter_text == ""


def test_t_switches_to_the_counts_since_the_start(view):
    press(view, "t")
    assert view.is_total


def test_an_opened_service_is_scrolled(view):
    press(view, "enter", "down", "j")
    assert view.first_row == 2
    press(view, "home")
    assert view.first_row == 0
    press(view, "enter", "/")
    assert view.opened is None
    assert view.is_filtering


def test_q_ends_and_unknown_keys_do_nothing(view):
    press(view, "x", "left", "redraw")
    assert not view.is_ended
    press(view, "q")
    assert view.is_ended


def test_a_failure_keeps_the_last_report(view):
    view.apply_failure("gone")
    assert (view.failure, len(view.rows)) == ("gone", 10)
    view.apply_report(build_report(), 102.0)
    assert view.failure == ""


def test_before_the_first_report_there_is_nothing_to_select():
    view = View("x")
    press(view, "down", "enter")
    assert (view.rows, view.opened, view.find_opened()) == ([], None, None)
