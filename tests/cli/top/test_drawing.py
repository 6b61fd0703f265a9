"""The screen has exactly its size, whatever the data and the size are."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.cli.top.drawing import describe_gaps, draw_screen
from maesh_core.cli.top.spans import join_plain
from maesh_core.cli.top.view import View
from maesh_core.model.traffic import MissingController, NodeTraffic

from .sample import build_report, build_service


def build_view(report=None):
    view = View("http://x")
    view.apply_report(report or build_report(), 100.0)
    return view


def draw(view, width=80, height=24, now_s=100.0):
    return [join_plain(line) for line in draw_screen(view, width, height, now_s=now_s)]


@given(
    width=st.integers(1, 250), height=st.integers(1, 60), keys=st.lists(st.sampled_from(["enter", "/", "down", "x"]))
)
def test_a_screen_is_never_larger_than_the_terminal(width, height, keys):
    view = build_view()
    for key in keys:
        view.press(key)
    lines = draw_screen(view, width, height, now_s=1.0)
    assert len(lines) == height
    assert all(sum(part.width for part in line) <= width for line in lines)


def test_the_list_shows_failing_services_first_and_why():
    lines = draw(build_view())
    assert lines[0] == "maesh top  http://x  10 service ports, 2 proxies, last 60 s"
    assert lines[4].startswith("shop/checkout:80")
    assert lines[-2].startswith("shop/checkout:80: the annotation")
    assert lines[-1].startswith("q quit")


def test_a_lost_controller_and_the_age_of_the_data_are_shown():
    view = build_view()
    view.apply_failure("no controller answers at http://x: Connection refused")
    lines = draw(view, width=120, now_s=112.0)
    assert lines[1] == ("controller lost (data are 12 s old): no controller answers at http://x: Connection refused")
    assert lines[4].startswith("shop/checkout:80")


def test_proxies_that_did_not_answer_and_refused_requests_are_shown():
    nodes = (NodeTraffic(name="a"), NodeTraffic(name="b", error="timed out"))
    text = describe_gaps(build_report(nodes=nodes, refused={"400": 3, "431": 0}))
    assert text == "1 of 2 proxies did not answer: b: timed out; refused before routing, since start: 3 x 400"


def test_controllers_that_did_not_answer_and_proxies_that_cannot_pull_are_shown():
    nodes = (NodeTraffic(name="a"), NodeTraffic(name="b", is_refused=True))
    missing = (MissingController(name="c-2", error="the controller cannot be reached"),)
    text = describe_gaps(msgspec.structs.replace(build_report(nodes=nodes), missing=missing))
    assert text == (
        "proxies may be missing, as 1 controller did not answer: c-2: the controller cannot be reached; "
        "1 proxy cannot pull, as controllers have no contact with the cluster"
    )


def test_the_selected_service_is_always_visible_in_a_long_list():
    view = build_view(build_report(*(build_service(f"s{number:04}") for number in range(2000))))
    draw(view)
    for key, first in (("end", "s1999"), ("page-up", "s1982"), ("home", "s0000")):
        view.press(key)
        selected = [line for line in draw_screen(view, 80, 24, now_s=1.0) if any(p.style == "selected" for p in line)]
        assert len(selected) == 1
        assert first in join_plain(selected[0])


def test_an_opened_service_says_how_much_is_below():
    view = build_view()
    view.press("enter")
    assert draw(view)[2] == "shop/checkout:80"
    assert draw(view)[-2].endswith("more lines, scroll with the arrow keys")
    view.press("end")
    assert draw(view)[-2] == "the annotation maesh.io/blue has no effect"


def test_a_service_that_is_gone_is_shown_as_such():
    view = build_view()
    view.press("enter")
    view.apply_report(build_report(build_service("other")), 101.0)
    assert "does not report this service" in draw(view, width=120)[2]


def test_without_a_service_that_is_said():
    view = build_view(msgspec.structs.replace(build_report(), services=()))
    assert "no service yet" in draw(view)
    view.filter_text = "x"
    assert "no service matches" in draw(view)


@pytest.mark.parametrize("keys", [(), ("enter",)])
def test_text_from_the_cluster_never_controls_the_terminal(keys):
    evil = "\x1b]0;owned\x07\r\n\u202e"
    nodes = (NodeTraffic(name=evil, error=evil),)
    service = build_service(evil, namespace=evil, port=evil, traffic_type=evil, errors=(evil,), notices=(evil,))
    view = build_view(build_report(service, nodes=nodes, refused={evil: 1}))
    view.apply_failure(evil)
    for key in keys:
        view.press(key)
    assert all(line.isprintable() for line in draw(view, 200, 50))
