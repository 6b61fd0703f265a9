"""One kind is listed and watched through a script of answers; its versions expire, and it is cancelled."""

import asyncio
import json
from contextlib import suppress

import pytest

from maesh_core.controller.discovery.kubernetes.watch import (
    LONGEST_LIST_PAUSE_S,
    PAGE_SIZE,
    SETTLED_S,
    SILENCE_MARGIN_S,
)
from maesh_core.errors import KubernetesError
from maesh_core.model.events import Applied, Deleted
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import ServiceAccount
from maesh_core.process.backoff import FIRST_S, LONGEST_S

from .watch_script import (
    ACCOUNTS,
    ADDED,
    CUT,
    HALF,
    LIMIT_S,
    ORIGIN,
    STAYS,
    After,
    Played,
    error_line,
    play,
    refuse,
    render_document,
    render_line,
    render_page,
    shorten,
)


def mark(version):
    return json.dumps({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": version}}}).encode()


GONE = refuse(410, "Expired")


async def test_a_kind_is_listed_in_pages_reported_once_and_watched_from_that_version():
    played = await play(
        render_page("5", "a", "b", **{"continue": "t1"}),
        render_page("5", "c", **{"continue": "t2"}),
        render_page("5", "d"),
        [[render_line("MODIFIED", "a", "6"), ADDED], [render_line("DELETED", "c", "8")], STAYS],
    )
    path = "/api/v1/serviceaccounts"
    limit = str(PAGE_SIZE)
    assert played.server.calls == [
        ("/api/v1", {}),
        (path, {"limit": limit}),
        (path, {"limit": limit, "continue": "t1"}),
        (path, {"limit": limit, "continue": "t2"}),
        (path, {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": "5", "timeoutSeconds": "53"}),
    ]
    assert [[shorten(event) for event in batch] for batch in played.batches] == [
        ["=a,b,c,d"],
        ["~"],
        ["+a", "+b"],
        ["-c"],
    ]
    assert played.batches[0][0].type is ServiceAccount
    assert played.batches[3] == [Deleted(ServiceAccount, ObjectKey("apps", "c"))]
    assert "at 8 in touch" in repr(played.watch)


async def test_a_watch_that_the_server_ends_is_reopened_at_its_version():
    played = await play(
        render_page("5"),
        [[ADDED], After(50, [mark("20")])],
        [[mark("21"), b"", b"  "], After(50)],
        [STAYS],
    )
    assert played.server.versions == ["list", "5", "20", "21"]
    assert played.pauses == []
    assert played.problems == {}


async def test_a_broken_watch_is_reopened_at_its_version_without_a_list():
    played = await play(
        render_page("5", "a"),
        [[ADDED], After(50, [mark("9")]), CUT],
        [[render_line("DELETED", "a", "10")], STAYS],
    )
    assert played.server.versions == ["list", "5", "9"]
    assert played.events == ["=a", "~", "+b", "!", "~", "-a"]
    assert played.pauses == [FIRST_S * HALF]


async def test_the_version_advances_only_after_the_events_are_reported():
    played = Played([render_document("serviceaccounts"), render_page("5"), [[ADDED], STAYS]], ACCOUNTS)

    async def fail_to_tell(batch):
        if any(isinstance(event, Applied) for event in batch):
            raise RuntimeError("nobody takes it")

    with pytest.raises(RuntimeError):
        await played.watch.run(fail_to_tell)
    assert "at 5 " in repr(played.watch)
    assert played.server.open_watches == 0


async def test_a_watch_that_exceeds_its_time_counts_as_hanging():
    played = await play(render_page("5"), [STAYS])
    ((silence_limit_s, timeout_s),) = played.server.silence_limits
    assert silence_limit_s == timeout_s + SILENCE_MARGIN_S


async def test_a_hanging_watch_is_reopened_at_its_version():
    hung = KubernetesError("GET /api/v1/serviceaccounts: no answer in time")
    played = await play(render_page("5"), [After(63), hung], [STAYS])
    assert played.server.versions == ["list", "5", "5"]
    assert played.pauses == [FIRST_S * HALF]


async def test_a_list_older_than_the_reported_version_is_still_reported():
    """A cluster's store may have been put back: what is there now is what counts."""
    played = await play(render_page("500", "a", "b"), [[error_line(410)], STAYS], render_page("90", "a"), [STAYS])
    assert played.events == ["=a,b", "~", "!", "=a", "~"]
    assert played.server.versions == ["list", "500", "list", "90"]


async def test_a_list_without_a_version_or_without_an_end_is_refused():
    played = await play(
        render_page("", "a"),
        render_page("5", "a", **{"continue": "t"}),
        render_page("5", "b", **{"continue": "t"}),
    )
    assert played.events == ["!", "!"]
    assert "does not get past one of its pages" in played.problems[ORIGIN]


@pytest.mark.parametrize(
    "ending",
    [
        [[error_line(410, "Expired")]],
        [[error_line(410, "Gone")]],
        [[error_line(0, "Expired")]],
        GONE,
        refuse(410),
    ],
)
async def test_an_expired_version_causes_a_list_that_reports_deletions_in_the_gap(ending):
    played = await play(render_page("5", "a", "b"), [After(60)], ending, render_page("30", "b", "c"), [STAYS])
    assert played.server.versions == ["list", "5", "5", "list", "30"]
    assert played.events == ["=a,b", "~", "!", "=b,c", "~"]
    assert played.problems == {}
    assert played.watch.broken_since is None


async def test_an_expired_continue_token_restarts_the_list_and_reports_no_partial_one():
    played = await play(
        render_page("5", "a", **{"continue": "t1"}),
        GONE,
        render_page("9", "b", **{"continue": "t2"}),
        render_page("9", "c"),
        [STAYS],
    )
    assert played.events == ["!", "=b,c", "~"]
    assert [query.get("continue") for _, query in played.server.calls[1:5]] == [None, "t1", None, "t2"]


def list_pauses(count, longest_s):
    return [min(FIRST_S * 2**step, longest_s) * HALF for step in range(count)]


@pytest.mark.parametrize("ending", [[[error_line(410)]], GONE, [[ADDED, error_line(410)]], [[b"garbage"]]])
async def test_repeatedly_failing_lists_are_retried_with_growing_pauses(ending):
    played = await play(*[each for _ in range(12) for each in (render_page("5"), ending)])
    assert played.pauses == list_pauses(12, LONGEST_LIST_PAUSE_S)


async def test_a_repeatedly_breaking_watch_is_retried_with_slightly_longer_pauses():
    played = await play(render_page("5"), *[[[ADDED], CUT]] * 12)
    assert played.pauses == list_pauses(12, LONGEST_S)


async def test_an_unreachable_server_is_retried_with_slightly_longer_pauses_even_after_a_lost_list():
    played = await play(render_page("5"), [[error_line(410)]], *[CUT] * 12)
    assert played.pauses == [FIRST_S * HALF, *list_pauses(12, LONGEST_S)]


@pytest.mark.parametrize("ending", [[], [[ADDED]], [After(SETTLED_S / 2, [ADDED])]])
async def test_a_server_that_ends_each_watch_at_once_is_not_flooded(ending):
    played = await play(render_page("5"), *[ending] * 10)
    assert played.pauses == list_pauses(10, LONGEST_S)
    assert played.problems == {}


async def test_a_watch_that_was_open_for_a_while_resets_the_pauses():
    settled = [After(SETTLED_S), CUT]
    played = await play(CUT, CUT, CUT, render_page("5"), CUT, settled, CUT, [STAYS])
    assert played.pauses == [FIRST_S * factor * HALF for factor in (1, 2, 4, 8, 1, 2)]


@pytest.mark.parametrize("script", [(), (render_page("5"),), (render_page("5"), [[ADDED], STAYS]), (CUT,)])
async def test_a_cancelled_watch_leaves_nothing_behind(script):
    before = asyncio.all_tasks()
    played = await play(*script)
    assert played.server.open_watches == 0
    assert asyncio.all_tasks() == before


async def test_a_watch_that_is_cancelled_while_its_reader_is_blocked_leaves_nothing_behind():
    played = Played([render_document("serviceaccounts"), render_page("5"), [[ADDED], STAYS]], ACCOUNTS)
    is_stuck = asyncio.Event()

    async def tell(batch):
        if any(isinstance(event, Applied) for event in batch):
            is_stuck.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(played.watch.run(tell))
    async with asyncio.timeout(LIMIT_S):
        await is_stuck.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert played.server.open_watches == 0
