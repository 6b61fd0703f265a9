"""A kind whose API server refuses, is busy, or answers what cannot be read."""

import pytest

from maesh_core.process.backoff import FIRST_S

from .watch_script import ADDED, CUT, HALF, ORIGIN, STAYS, After, error_line, play, refuse, render_line, render_page


async def test_a_forbidden_kind_is_reported_once_and_out_of_touch_until_it_is_allowed():
    forbidden = refuse(403, "Forbidden")
    played = await play(forbidden, forbidden, forbidden, render_page("5"), [STAYS])
    assert played.events == ["!", "=", "~"]
    assert played.batches[0][0].text == "serviceaccounts cannot be followed: the server says 403"
    assert played.touch == [1000.0] * 3
    assert played.watch.broken_since is None


async def test_a_kind_with_permission_to_list_but_not_to_watch_stays_out_of_touch():
    forbidden = refuse(403, "Forbidden")
    played = await play(forbidden, render_page("5"), forbidden, forbidden)
    assert played.problems == {ORIGIN: "serviceaccounts cannot be followed: the server says 403"}
    assert played.watch.broken_since == 1000.0
    assert played.server.versions == ["list", "list", "5", "5", "5"]


async def test_a_kind_is_out_of_touch_from_the_moment_its_watch_breaks():
    played = await play(render_page("5"), [After(100), CUT], CUT)
    assert played.watch.broken_since == 1100.0
    assert played.touch == [1100.0, 1100.0]
    assert "broken: GET" in repr(played.watch)


@pytest.mark.parametrize("script", [(), (render_page("5"),)])
async def test_an_overloaded_server_is_asked_again_after_the_time_it_requests(script):
    busy = refuse(429, "TooManyRequests", retry_after_s=7.0)
    played = await play(*script, busy, busy)
    assert played.pauses == [7.0 + FIRST_S * HALF, 7.0 + 2 * FIRST_S * HALF]


async def test_a_watch_that_an_overloaded_server_ends_causes_no_list():
    played = await play(render_page("5"), [[ADDED, error_line(429, "TooManyRequests")]], [STAYS])
    assert played.server.versions == ["list", "5", "7"]


@pytest.mark.parametrize(
    "line", [b"<html>", b"{", b"\xff", b'{"type":"ADDED","object":{"metadata":{"name":7}}}', error_line(500)]
)
async def test_an_unreadable_line_causes_a_list_after_the_events_before_it(line):
    played = await play(
        render_page("5", "a"), [[ADDED, line, render_line("DELETED", "a", "9")]], render_page("9", "b"), [STAYS]
    )
    assert played.events == ["=a", "~", "+b", "!", "=b", "~"]
    assert played.server.versions == ["list", "5", "list", "9"]


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"items":7}'])
async def test_an_unreadable_list_is_requested_again(body):
    played = await play(body, render_page("5", "a"), [STAYS])
    assert played.events == ["!", "=a", "~"]
