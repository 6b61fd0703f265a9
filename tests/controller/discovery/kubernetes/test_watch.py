"""One kind followed through a script: what the server answers, call by call, and what is told."""

import asyncio
import json
from contextlib import suppress

import pytest

from maesh_core.controller.discovery.kubernetes.watch import (
    ABSENT_S,
    LONGEST_LIST_PAUSE_S,
    PAGE_SIZE,
    SETTLED_S,
    SILENCE_MARGIN_S,
    KindWatch,
    find_path,
)
from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.errors import KubernetesError
from maesh_core.model.events import Applied, Deleted, Problem, Replaced
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import EndpointSlice, ServiceAccount
from maesh_core.process.backoff import FIRST_S, LONGEST_S

LIMIT_S = 10.0
"""Far above what anything here takes; only a failing test gets there."""
SLICES, ACCOUNTS = CORE_KINDS[1], CORE_KINDS[-1]
ORIGIN = "kubernetes serviceaccounts"
STAYS = "the watch stands and says no more"
HALF = 0.75
"""What chance, which is one half here, leaves of a pause."""


class After:
    """A batch of a watch that comes so much later."""

    def __init__(self, seconds, lines=()):
        self.seconds, self.lines = seconds, lines


class Server:
    """Answers each call with the next of its script: bytes, an error, or the batches of a watch. Then it is silent."""

    def __init__(self, script, clock):
        self._script = list(script)
        self._clock = clock
        self.calls = []
        self.silence_limits = []
        self.open_watches = 0
        self.is_through = asyncio.Event()

    async def get(self, path, query=None):
        self.calls.append((path, dict(query or {})))
        answer = await self._next()
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, bytes), f"the script has no answer to {path} {query}"
        return answer

    async def watch_lines(self, path, query, *, silence_limit_s):
        self.calls.append((path, dict(query)))
        self.silence_limits.append((silence_limit_s, float(query["timeoutSeconds"])))
        answer = await self._next()
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, list), f"the script has no watch of {path} {query}"
        self.open_watches += 1
        try:
            yield []
            for step in answer:
                if step == STAYS:
                    await self._end()
                if isinstance(step, Exception):
                    raise step
                if isinstance(step, After):
                    self._clock.now += step.seconds
                    yield list(step.lines)
                else:
                    yield step
        finally:
            self.open_watches -= 1

    async def _next(self):
        return self._script.pop(0) if self._script else await self._end()

    async def _end(self):
        self.is_through.set()
        await asyncio.Event().wait()

    @property
    def versions(self):
        """The resource version of each watch; of a list, `list`."""
        return [query.get("resourceVersion", "list") for path, query in self.calls if query and "continue" not in query]


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


class Played:
    """What came of a script; the watch is as it was at the end of it."""

    def __init__(self, script, kind):
        self.clock = Clock()
        self.server = Server(script, self.clock)
        self.pauses = []
        self.batches = []
        self.watch = KindWatch(self.server, kind, clock=self.clock, pause=self._pause, chance=lambda: 0.5)
        self.touch = []

    async def _pause(self, seconds):
        self.pauses.append(seconds)
        self.touch.append(self.watch.broken_since)
        self.clock.now += seconds
        await asyncio.sleep(0)

    async def tell(self, batch):
        assert batch, "an empty batch was told"
        self.batches.append(list(batch))
        await asyncio.sleep(0)

    @property
    def events(self):
        return [shorten(event) for batch in self.batches for event in batch]

    @property
    def problems(self):
        """What is a problem at the end."""
        found = {}
        for batch in self.batches:
            for event in batch:
                if isinstance(event, Problem):
                    found[event.origin] = event.text
        return {origin: text for origin, text in found.items() if text is not None}


async def play(*script, kind=ACCOUNTS, document=True):
    """Play a script to its end; it begins with what the server serves."""
    played = Played([render_document("serviceaccounts", "pods"), *script] if document else script, kind)
    task = asyncio.create_task(played.watch.run(played.tell))
    through = asyncio.create_task(played.server.is_through.wait())
    try:
        async with asyncio.timeout(LIMIT_S):
            await asyncio.wait([task, through], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        await asyncio.sleep(0)
    finally:
        for each in (task, through):
            each.cancel()
        await asyncio.gather(task, through, return_exceptions=True)
    assert played.server.open_watches == 0
    return played


def shorten(event):
    if isinstance(event, Applied):
        return f"+{event.resource.key.name}"
    if isinstance(event, Deleted):
        return f"-{event.key.name}"
    if isinstance(event, Replaced):
        return "=" + ",".join(resource.key.name for resource in event.resources)
    return f"{'!' if event.text else '~'}{event.origin.removeprefix(ORIGIN).strip()}"


def render_document(*names):
    return json.dumps({"kind": "APIResourceList", "resources": [{"name": name} for name in names]}).encode()


def render_page(version, *names, **more):
    items = [name if isinstance(name, dict) else build(name) for name in names]
    return json.dumps({"metadata": {"resourceVersion": version} | more, "items": items}).encode()


def build(name, version="1", **metadata):
    return {"metadata": {"name": name, "namespace": "apps", "resourceVersion": version} | metadata}


def bad(name, version="1"):
    return build(name, version, labels=["no map"])


def render_line(kind, name, version):
    value = name if isinstance(name, dict) else build(name, version)
    return json.dumps({"type": kind, "object": value}).encode()


def mark(version):
    return json.dumps({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": version}}}).encode()


def error_line(code, reason=""):
    status = {"kind": "Status", "code": code, "reason": reason, "message": "no more"}
    return json.dumps({"type": "ERROR", "object": status}).encode()


def refuse(status, reason="", **more):
    return KubernetesError(f"the server says {status}", status=status, reason=reason, **more)


GONE = refuse(410, "Expired")
CUT = KubernetesError("GET /api/v1/serviceaccounts: the connection broke")
ADDED = render_line("ADDED", "b", "7")


# --- listing and watching ----------------------------------------------------------------------------------------


async def test_a_kind_is_listed_page_by_page_reported_as_one_list_and_watched_from_there():
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


async def test_a_watch_that_the_server_ends_is_opened_again_where_it_was():
    played = await play(
        render_page("5"),
        [[ADDED], After(50, [mark("20")])],
        [[mark("21"), b"", b"  "], After(50)],
        [STAYS],
    )
    assert played.server.versions == ["list", "5", "20", "21"]
    assert played.pauses == []
    assert played.problems == {}


async def test_a_watch_that_breaks_is_opened_again_where_it_was_without_a_list():
    played = await play(
        render_page("5", "a"),
        [[ADDED], After(50, [mark("9")]), CUT],
        [[render_line("DELETED", "a", "10")], STAYS],
    )
    assert played.server.versions == ["list", "5", "9"]
    assert played.events == ["=a", "~", "+b", "!", "~", "-a"]
    assert played.pauses == [FIRST_S * HALF]


async def test_the_watch_moves_with_what_was_reported_and_not_before():
    played = Played([render_document("serviceaccounts"), render_page("5"), [[ADDED], STAYS]], ACCOUNTS)

    async def fail_to_tell(batch):
        if any(isinstance(event, Applied) for event in batch):
            raise RuntimeError("nobody takes it")

    with pytest.raises(RuntimeError):
        await played.watch.run(fail_to_tell)
    assert "at 5 " in repr(played.watch)
    assert played.server.open_watches == 0


async def test_a_watch_that_is_not_ended_in_time_counts_as_hanging():
    played = await play(render_page("5"), [STAYS])
    ((silence_limit_s, timeout_s),) = played.server.silence_limits
    assert silence_limit_s == timeout_s + SILENCE_MARGIN_S


async def test_a_watch_that_hangs_is_opened_again_where_it_was():
    hung = KubernetesError("GET /api/v1/serviceaccounts: no answer in time")
    played = await play(render_page("5"), [After(63), hung], [STAYS])
    assert played.server.versions == ["list", "5", "5"]
    assert played.pauses == [FIRST_S * HALF]


async def test_a_list_that_is_older_than_what_was_reported_is_reported_all_the_same():
    """A cluster's store may have been put back: what is there now is what counts."""
    played = await play(render_page("500", "a", "b"), [[error_line(410)], STAYS], render_page("90", "a"), [STAYS])
    assert played.events == ["=a,b", "~", "!", "=a", "~"]
    assert played.server.versions == ["list", "500", "list", "90"]


async def test_a_list_without_a_version_or_that_never_ends_is_refused():
    played = await play(
        render_page("", "a"),
        render_page("5", "a", **{"continue": "t"}),
        render_page("5", "b", **{"continue": "t"}),
    )
    assert played.events == ["!", "!"]
    assert "does not get past one of its pages" in played.problems[ORIGIN]


# --- what is too old ---------------------------------------------------------------------------------------------


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
async def test_a_version_that_is_too_old_lists_again_and_a_deletion_in_the_gap_is_seen(ending):
    played = await play(render_page("5", "a", "b"), [After(60)], ending, render_page("30", "b", "c"), [STAYS])
    assert played.server.versions == ["list", "5", "5", "list", "30"]
    assert played.events == ["=a,b", "~", "!", "=b,c", "~"]
    assert played.problems == {}
    assert played.watch.broken_since is None


async def test_a_continue_token_that_is_too_old_lists_from_the_start_and_tells_no_half_list():
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
async def test_lists_that_come_to_nothing_again_and_again_are_tried_ever_more_seldom(ending):
    played = await play(*[each for _ in range(12) for each in (render_page("5"), ending)])
    assert played.pauses == list_pauses(12, LONGEST_LIST_PAUSE_S)


async def test_a_watch_that_breaks_again_and_again_is_tried_a_little_more_seldom():
    played = await play(render_page("5"), *[[[ADDED], CUT]] * 12)
    assert played.pauses == list_pauses(12, LONGEST_S)


async def test_a_server_that_is_away_is_tried_a_little_more_seldom_also_after_a_list_that_was_lost():
    played = await play(render_page("5"), [[error_line(410)]], *[CUT] * 12)
    assert played.pauses == [FIRST_S * HALF, *list_pauses(12, LONGEST_S)]


@pytest.mark.parametrize("ending", [[], [[ADDED]], [After(SETTLED_S / 2, [ADDED])]])
async def test_a_server_that_ends_each_watch_at_once_is_not_flooded(ending):
    played = await play(render_page("5"), *[ending] * 10)
    assert played.pauses == list_pauses(10, LONGEST_S)
    assert played.problems == {}


async def test_a_watch_that_has_stood_for_a_while_makes_pauses_short_again():
    settled = [After(SETTLED_S), CUT]
    played = await play(CUT, CUT, CUT, render_page("5"), CUT, settled, CUT, [STAYS])
    assert played.pauses == [FIRST_S * factor * HALF for factor in (1, 2, 4, 8, 1, 2)]


# --- failures ----------------------------------------------------------------------------------------------------


async def test_what_is_forbidden_is_reported_once_and_seen_as_out_of_touch_until_it_is_allowed():
    forbidden = refuse(403, "Forbidden")
    played = await play(forbidden, forbidden, forbidden, render_page("5"), [STAYS])
    assert played.events == ["!", "=", "~"]
    assert played.batches[0][0].text == "serviceaccounts cannot be followed: the server says 403"
    assert played.touch == [1000.0] * 3
    assert played.watch.broken_since is None


async def test_a_kind_that_may_be_listed_and_not_watched_stays_out_of_touch():
    forbidden = refuse(403, "Forbidden")
    played = await play(forbidden, render_page("5"), forbidden, forbidden)
    assert played.problems == {ORIGIN: "serviceaccounts cannot be followed: the server says 403"}
    assert played.watch.broken_since == 1000.0
    assert played.server.versions == ["list", "list", "5", "5", "5"]


async def test_it_is_out_of_touch_from_when_its_watch_broke():
    played = await play(render_page("5"), [After(100), CUT], CUT)
    assert played.watch.broken_since == 1100.0
    assert played.touch == [1100.0, 1100.0]
    assert "broken: GET" in repr(played.watch)


@pytest.mark.parametrize("script", [(), (render_page("5"),)])
async def test_a_server_that_is_too_busy_is_given_the_time_it_asks_for(script):
    busy = refuse(429, "TooManyRequests", retry_after_s=7.0)
    played = await play(*script, busy, busy)
    assert played.pauses == [7.0 + FIRST_S * HALF, 7.0 + 2 * FIRST_S * HALF]


async def test_a_watch_that_ends_for_a_busy_server_is_not_listed_again():
    played = await play(render_page("5"), [[ADDED, error_line(429, "TooManyRequests")]], [STAYS])
    assert played.server.versions == ["list", "5", "7"]


@pytest.mark.parametrize(
    "line", [b"<html>", b"{", b"\xff", b'{"type":"ADDED","object":{"metadata":{"name":7}}}', error_line(500)]
)
async def test_a_line_that_cannot_be_read_lists_again_after_what_came_before_it(line):
    played = await play(
        render_page("5", "a"), [[ADDED, line, render_line("DELETED", "a", "9")]], render_page("9", "b"), [STAYS]
    )
    assert played.events == ["=a", "~", "+b", "!", "=b", "~"]
    assert played.server.versions == ["list", "5", "list", "9"]


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"items":7}'])
async def test_a_list_that_cannot_be_read_is_asked_for_again(body):
    played = await play(body, render_page("5", "a"), [STAYS])
    assert played.events == ["!", "=a", "~"]


# --- objects that cannot be used -----------------------------------------------------------------------------------


async def test_an_object_that_turns_bad_is_a_problem_and_deleted_until_it_heals():
    played = await play(
        render_page("5", "a"),
        [[render_line("MODIFIED", bad("a", "6"), "6")], [render_line("MODIFIED", "a", "7")], STAYS],
    )
    assert played.events == ["=a", "~", "!a@apps", "-a", "~a@apps", "+a"]
    assert "ServiceAccount a@apps cannot be read: Expected `object`" in played.batches[2][0].text


async def test_a_bad_object_that_is_deleted_is_no_problem_any_more():
    played = await play(render_page("5", bad("a"), "b"), [[render_line("DELETED", bad("a", "6"), "6")], STAYS])
    assert played.events == ["=b", "!a@apps", "~", "~a@apps", "-a"]


async def test_a_list_withdraws_the_problems_of_what_has_healed_or_gone():
    played = await play(
        render_page("5", bad("a"), bad("b"), bad("c"), "d"),
        [[error_line(410)]],
        render_page("9", "a", bad("c")),
        [STAYS],
    )
    assert played.events == [
        "=d",
        "!a@apps",
        "!b@apps",
        "!c@apps",
        "~",
        "!",
        "=a",
        "~a@apps",
        "~b@apps",
        "!c@apps",
        "~",
    ]
    assert list(played.problems) == [f"{ORIGIN} c@apps"]


async def test_a_name_that_no_object_can_have_is_harmless_in_a_problem():
    played = await play(render_page("5", build("a\nb" + "x" * 999)), [STAYS])
    (origin,) = played.problems
    assert "\n" not in origin + played.problems[origin]
    assert len(origin) < 200


async def test_all_problems_can_be_withdrawn():
    played = await play(render_page("5", bad("b"), bad("a")), CUT)
    assert [shorten(event) for event in played.watch.withdraw_problems()] == ["~", "~a@apps", "~b@apps"]


# --- kinds that come and go --------------------------------------------------------------------------------------


NOTHING = render_document("pods")
SERVES = render_document("serviceaccounts", "serviceaccounts/token")
NOT_FOUND = refuse(404, "NotFound")


async def test_a_kind_that_is_not_served_is_an_empty_list_until_it_appears():
    played = await play(NOTHING, NOT_FOUND, NOTHING, SERVES, render_page("5", "a"), [STAYS], document=False)
    assert played.events == ["=", "~", "=a"]
    assert played.pauses == [ABSENT_S] * 3
    assert played.touch == [None] * 3


async def test_a_kind_that_vanishes_is_an_empty_list_again():
    played = await play(
        render_page("5", "a", bad("b")),
        [After(60, [ADDED])],
        NOT_FOUND,
        NOTHING,
        SERVES,
        render_page("1", "c"),
        [STAYS],
    )
    assert played.events == ["=a", "!b@apps", "~", "~b@apps", "+b", "!", "=", "~", "=c"]
    assert played.problems == {}
    assert played.pauses == [FIRST_S * HALF, ABSENT_S]


async def test_a_bad_object_of_a_kind_that_vanishes_is_no_problem_any_more():
    played = await play(render_page("5", bad("b")), [After(60)], NOT_FOUND, NOTHING)
    assert played.events == ["=", "!b@apps", "~", "!", "=", "~b@apps", "~"]
    assert played.problems == {}


async def test_a_failure_while_a_kind_is_absent_is_withdrawn_when_the_server_answers():
    played = await play(NOTHING, refuse(503), NOTHING, document=False)
    assert played.events == ["=", "~", "!", "~"]
    assert played.watch.broken_since is None


async def test_a_kind_is_followed_in_the_first_version_that_the_server_serves():
    played = await play(
        NOT_FOUND,
        render_document("endpointslices"),
        render_page("5"),
        [STAYS],
        kind=SLICES,
        document=False,
    )
    assert [path for path, _ in played.server.calls] == [
        "/apis/discovery.k8s.io/v1",
        "/apis/discovery.k8s.io/v1beta1",
        *["/apis/discovery.k8s.io/v1beta1/endpointslices"] * 2,
    ]
    assert played.batches[0] == [Replaced(EndpointSlice, [])]


async def test_a_version_that_is_served_no_longer_is_left_for_another():
    document = render_document("endpointslices")
    played = await play(
        *(document, render_page("5"), [After(60)], NOT_FOUND),
        *(NOT_FOUND, document, render_page("9"), [STAYS]),
        kind=SLICES,
        document=False,
    )
    assert played.server.calls[-1][0] == "/apis/discovery.k8s.io/v1beta1/endpointslices"


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b'{"resources":7}', b"[" * 100_000])
async def test_a_document_that_is_none_is_an_error_and_no_absence(body):
    server = Server([body], Clock())
    with pytest.raises(KubernetesError, match="list of its resources is malformed"):
        await find_path(server, ACCOUNTS)


async def test_a_document_of_nothing_is_an_absence():
    server = Server([b'{"resources":null}'], Clock())
    assert await find_path(server, ACCOUNTS) is None


# --- being cancelled -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", [(), (render_page("5"),), (render_page("5"), [[ADDED], STAYS]), (CUT,)])
async def test_a_watch_that_is_cancelled_leaves_nothing_behind(script):
    before = asyncio.all_tasks()
    played = await play(*script)
    assert played.server.open_watches == 0
    assert asyncio.all_tasks() == before


async def test_a_watch_that_is_cancelled_while_nobody_takes_what_it_tells_leaves_nothing_behind():
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
