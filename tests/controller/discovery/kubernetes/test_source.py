"""A whole source against the API server for tests. Pauses are short, and time passes by them alone."""

import asyncio
import json
import re
from contextlib import asynccontextmanager, suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maesh_core.controller.discovery.kubernetes.source import QUEUE_LIMIT, KubernetesSource
from maesh_core.controller.kubernetes.client import KubernetesClient
from maesh_core.controller.kubernetes.credentials import Access, Credentials
from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.controller.resources.snapshot import Snapshot
from maesh_core.controller.sources import feed_source
from maesh_core.model.events import Applied, Deleted, Replaced
from maesh_core.model.resources import Endpoints, EndpointSlice, Namespace, Pod, Resource, ResourceKind, Service
from maesh_testing.api_server import ApiServer, FaultKind

LIMIT_S = 20.0
"""Far above what anything here takes; only a failing test gets there."""
PAUSE_S = 0.002
"""What a pause takes, however long it is meant to be."""


class ConfigMap(Resource, frozen=True):
    data: dict[str, str] = {}


class Thing(Resource, frozen=True):
    level: int = 0


MAPS = ResourceKind(name="ConfigMap", plural="configmaps", api_versions=("v1",), type=ConfigMap)
THINGS = ResourceKind(
    name="Thing", plural="things", api_versions=("acme.example/v2", "acme.example/v1"), type=Thing, is_namespaced=False
)
KINDS = (MAPS, THINGS)
DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "things.acme.example"},
    "spec": {
        "group": "acme.example",
        "scope": "Cluster",
        "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}


def build_map(name, **values):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": values}


def build_thing(name, level):
    return {"apiVersion": "acme.example/v1", "kind": "Thing", "metadata": {"name": name}, "level": level}


def build_service(name):
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}}


class Clock:
    """Time that passes by pauses alone."""

    def __init__(self):
        self.now = 1000.0
        self.pauses = []

    def __call__(self):
        return self.now

    async def pause(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds
        await asyncio.sleep(PAUSE_S)


class HastyClient(KubernetesClient):
    """A client that waits for a server that hangs no longer than a test can, and that can fail as none should."""

    surprise = None

    silence_limit_s = LIMIT_S

    async def get(self, path, query=None, *, timeout_s=1.0):
        self._check(path)
        return await super().get(path, query, timeout_s=timeout_s)

    async def watch_lines(self, path, query, *, silence_limit_s):
        self._check(path)
        async for lines in super().watch_lines(path, query, silence_limit_s=min(silence_limit_s, self.silence_limit_s)):
            yield lines

    def _check(self, path):
        if self.surprise is not None and self.surprise in path:
            raise RuntimeError("a bug")


class Follower:
    """Applies what a source tells to a snapshot, by the feed of a controller, in a task of its own."""

    def __init__(self, server, kinds, token=""):
        access = Access(server=server.url, headers={"Authorization": f"Bearer {token or server.token}"})
        self.client = HastyClient(Credentials(lambda: self._give(access)))
        self.kinds = kinds
        self.clock = Clock()
        self.source = KubernetesSource(self.client, clock=self.clock, pause=self.clock.pause)
        self.snapshot = Snapshot(kinds)
        self.batches = []
        self.restarts = 0
        self._has_told = asyncio.Event()
        self._task = None

    @staticmethod
    async def _give(access):
        return access

    def start(self):
        self._task = asyncio.create_task(feed_source(self.source, self.kinds, self._apply, pause=self._pause))

    async def stop(self):
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        await self.client.close()

    def _apply(self, batch, name):
        self.batches.append(batch)
        self.snapshot.apply(batch, source=name)
        self._has_told.set()

    async def _pause(self, seconds):
        self.restarts += 1
        await self.clock.pause(seconds)

    async def until(self, is_reached, limit_s=LIMIT_S):
        """Follow until something is so."""
        try:
            async with asyncio.timeout(limit_s):
                while not is_reached():
                    with suppress(TimeoutError):
                        async with asyncio.timeout(0.01):
                            await self._has_told.wait()
                    self._has_told.clear()
        except TimeoutError:
            raise AssertionError(f"not reached: {self.source} {self.snapshot.problems}") from None

    @property
    def problems(self):
        return dict(self.snapshot.problems)

    @property
    def events(self):
        return [event for batch in self.batches for event in batch]

    def names(self, type_):
        return [key.name for key in self.snapshot.keys(type_)]

    def count_lists(self, type_):
        return sum(isinstance(event, Replaced) and event.type is type_ for event in self.events)

    def is_in_touch(self):
        is_followed = not re.search("broken|not following", repr(self.source))
        return is_followed and self.source.out_of_touch_s == 0 and not self.snapshot.problems


@asynccontextmanager
async def following(server, kinds=KINDS, token="", client=None):
    follower = Follower(server, kinds, token)
    for name, value in (client or {}).items():
        setattr(follower.client, name, value)
    before = asyncio.all_tasks()
    follower.start()
    try:
        yield follower
    finally:
        await follower.stop()
        await asyncio.sleep(0)
        left = {task for task in asyncio.all_tasks() - before if "aiohttp" not in repr(task.get_coro())}
        assert not left


# --- what is told --------------------------------------------------------------------------------------------------


async def test_what_is_there_is_reported_and_what_happens_then(api_server):
    api_server.apply([build_map("a", x="1"), build_map("b")])
    async with following(api_server) as follower:
        await follower.until(lambda: follower.names(ConfigMap) == ["a", "b"] and follower.is_in_touch())
        api_server.apply([build_map("a", x="2"), build_map("c")])
        api_server.delete("configmaps", "b", "default")
        await follower.until(lambda: follower.names(ConfigMap) == ["a", "c"])
        assert follower.snapshot.get(ConfigMap, ("default", "a")).data == {"x": "2"}
        assert follower.count_lists(ConfigMap) == 1


async def test_a_large_list_is_read_in_pages(api_server, monkeypatch):
    monkeypatch.setattr("maesh_core.controller.discovery.kubernetes.watch.PAGE_SIZE", 10)
    api_server.apply([build_map(f"m{number:02}") for number in range(25)])
    async with following(api_server) as follower:
        await follower.until(lambda: len(follower.names(ConfigMap)) == 25)
        assert follower.count_lists(ConfigMap) == 1
    assert sum(call.verb == "list" and call.resource == "configmaps" for call in api_server.calls) == 3


async def test_the_mesh_kinds_are_all_reported_and_those_that_only_manifests_hold_are_empty(api_server):
    api_server.apply(build_service("web"))
    async with following(api_server, CORE_KINDS) as follower:
        listed = {kind.type for kind in CORE_KINDS}
        await follower.until(lambda: {e.type for e in follower.events if isinstance(e, Replaced)} == listed)
        await follower.until(follower.is_in_touch)
        assert "web" in follower.names(Service)
        assert follower.names(Namespace) == []
    asked = {call.resource for call in api_server.calls if call.verb in ("list", "watch")}
    assert asked == {"services", "endpointslices", "pods"}


async def test_endpoints_are_followed_where_the_server_has_no_slices(api_server):
    api_server.add_fault(
        FaultKind.STATUS, resource="/apis/discovery.k8s.io/*", count=None, status=404, reason="NotFound"
    )
    address = {"subsets": [{"addresses": [{"ip": "10.1.0.1"}], "ports": [{"port": 80}]}]}
    api_server.apply({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "web"}} | address)
    async with following(api_server, CORE_KINDS) as follower:
        await follower.until(lambda: follower.names(Endpoints) == ["web"])
        await follower.until(follower.is_in_touch)
        assert follower.count_lists(EndpointSlice) == 1
    asked = {call.resource for call in api_server.calls if call.verb in ("list", "watch")}
    assert asked == {"services", "endpoints", "pods"}


async def test_a_fallback_for_what_nobody_declares_is_followed(api_server):
    lone = ResourceKind(name="ConfigMap", plural="configmaps", api_versions=("v1",), type=ConfigMap, fallback_of=Thing)
    api_server.apply(build_map("a"))
    async with following(api_server, (lone,)) as follower:
        await follower.until(lambda: follower.names(ConfigMap) == ["a"])


async def test_with_nothing_to_follow_it_is_in_touch(api_server):
    async with following(api_server, CORE_KINDS[-1:]) as follower:
        await follower.until(follower.is_in_touch)


class Flood:
    """A client whose watches tell all they have at once."""

    def __init__(self, count):
        self.count = count
        self.told = 0

    async def get(self, path, query=None):
        if query is None:
            return json.dumps({"resources": [{"name": "configmaps"}, {"name": "things"}]}).encode()
        return b'{"metadata":{"resourceVersion":"1"}}'

    async def watch_lines(self, path, query, *, silence_limit_s):
        yield []
        for number in range(self.count):
            found = {"metadata": {"name": f"n{number}", "namespace": "default", "resourceVersion": str(number + 2)}}
            self.told += 1
            yield [json.dumps({"type": "ADDED", "object": found}).encode()]
        await asyncio.Event().wait()


async def test_what_came_while_nobody_looked_is_one_batch():
    batches = KubernetesSource(Flood(5)).watch_events(KINDS)
    await anext(batches)
    applied = []
    while len(applied) < 10:
        async with asyncio.timeout(LIMIT_S):
            batch = await anext(batches)
        applied += [event for event in batch if isinstance(event, Applied)]
        sizes = len(batch)
        for _ in range(50):
            await asyncio.sleep(0)
    await batches.aclose()
    assert sizes > 5
    order = [event.resource.key.name for event in applied if type(event.resource) is Thing]
    assert order == [f"n{number}" for number in range(5)]


async def test_a_watch_waits_for_who_takes_what_it_tells():
    client = Flood(10 * QUEUE_LIMIT)
    batches = KubernetesSource(client).watch_events((MAPS,))
    for _ in range(2):
        await anext(batches)
    for _ in range(100 * QUEUE_LIMIT):
        await asyncio.sleep(0)
    assert client.told <= 2 * QUEUE_LIMIT
    await batches.aclose()


# --- what goes wrong -----------------------------------------------------------------------------------------------


async def test_a_server_that_is_away_at_first_is_a_problem_until_it_comes(api_server):
    api_server.stop_listening()
    async with following(api_server, CORE_KINDS) as follower:
        await follower.until(lambda: "kubernetes" in follower.problems and len(follower.clock.pauses) > 3)
        assert "the cluster cannot be read" in follower.problems["kubernetes"]
        assert follower.source.out_of_touch_s == follower.clock.now - 1000.0 > 0
        assert "not following" in repr(follower.source)
        api_server.resume()
        await follower.until(follower.is_in_touch)
        assert follower.restarts == 0


async def test_a_server_that_goes_and_comes_back_is_followed_on_without_a_list(api_server):
    async with following(api_server) as follower:
        await follower.until(follower.is_in_touch)
        api_server.stop_listening()
        await follower.until(lambda: follower.source.out_of_touch_s > 20 and follower.problems)
        api_server.apply(build_map("late"))
        api_server.resume()
        await follower.until(follower.is_in_touch)
        await follower.until(lambda: "late" in follower.names(ConfigMap))
        assert follower.count_lists(ConfigMap) == 1


@pytest.mark.parametrize("how", ["cut_connections", "end_watches"])
async def test_a_watch_that_ends_or_breaks_goes_on_where_it_was(api_server, how):
    async with following(api_server, (MAPS,)) as follower:
        await follower.until(follower.is_in_touch)
        for number in range(3):
            getattr(api_server, how)()
            api_server.apply(build_map(f"m{number}"))
            await follower.until(lambda name=f"m{number}": name in follower.names(ConfigMap))
        assert follower.count_lists(ConfigMap) == 1


async def test_bookmarks_keep_a_quiet_watch_from_growing_too_old(api_server):
    async with following(api_server, (MAPS,)) as follower:
        await follower.until(follower.is_in_touch)
        api_server.apply(build_service("other"))
        api_server.compact()
        api_server.send_bookmarks("configmaps")
        await follower.until(lambda: str(api_server.version) in repr(follower.source))
        api_server.end_watches()
        api_server.apply(build_map("a"))
        await follower.until(lambda: follower.names(ConfigMap) == ["a"])
        assert follower.count_lists(ConfigMap) == 1


async def test_what_was_deleted_while_history_was_forgotten_goes(api_server):
    api_server.apply([build_map("a"), build_map("b")])
    async with following(api_server, (MAPS,)) as follower:
        await follower.until(follower.is_in_touch)
        api_server.stop_listening()
        api_server.delete("configmaps", "a", "default")
        api_server.compact()
        api_server.resume()
        await follower.until(lambda: follower.names(ConfigMap) == ["b"])
        await follower.until(follower.is_in_touch)
        assert follower.count_lists(ConfigMap) == 2


async def test_a_continue_token_that_is_too_old_begins_the_list_again(api_server, monkeypatch):
    monkeypatch.setattr("maesh_core.controller.discovery.kubernetes.watch.PAGE_SIZE", 2)
    api_server.apply([build_map(f"m{number}") for number in range(5)])
    api_server.add_fault(FaultKind.STATUS, verb="list", resource="configmaps", skip=1, status=410, reason="Expired")
    async with following(api_server, (MAPS,)) as follower:
        await follower.until(lambda: len(follower.names(ConfigMap)) == 5)
        await follower.until(follower.is_in_touch)
        assert follower.count_lists(ConfigMap) == 1


async def test_a_kind_comes_and_goes_with_its_definition(api_server):
    async with following(api_server) as follower:
        await follower.until(lambda: follower.count_lists(Thing) == 1 and follower.is_in_touch())
        for _ in range(2):
            api_server.apply([DEFINITION, build_thing("a", 1)])
            await follower.until(lambda: follower.names(Thing) == ["a"] and follower.is_in_touch())
            api_server.delete("customresourcedefinitions", "things.acme.example")
            await follower.until(lambda: follower.names(Thing) == [] and follower.is_in_touch())


async def test_a_bad_object_is_reported_and_withdrawn(api_server):
    api_server.apply([DEFINITION, build_thing("a", 1), build_thing("b", "high")])
    origin = "kubernetes things {}@"
    async with following(api_server) as follower:
        await follower.until(lambda: follower.names(Thing) == ["a"] and origin.format("b") in follower.problems)
        api_server.apply([build_thing("a", "low"), build_thing("b", 2)])
        await follower.until(lambda: follower.names(Thing) == ["b"] and list(follower.problems) == [origin.format("a")])
        assert any(isinstance(event, Deleted) and event.key.name == "a" for event in follower.events)
        api_server.delete("things", "a")
        await follower.until(lambda: not follower.problems)


async def test_what_is_forbidden_is_a_problem_until_it_is_allowed(api_server):
    token = api_server.add_token("weak", user="maesh")
    api_server.set_rules("maesh", [{"apiGroups": [""], "resources": ["services", "pods"], "verbs": ["list", "watch"]}])
    async with following(api_server, CORE_KINDS, token) as follower:
        origin = "kubernetes endpointslices"
        await follower.until(lambda: follower.source.out_of_touch_s > 60 and origin in follower.problems)
        assert "cannot list resource" in follower.problems[origin]
        assert list(follower.problems) == [origin]
        assert follower.count_lists(Service) == follower.count_lists(Pod) == 1
        api_server.set_rules("maesh", None)
        await follower.until(follower.is_in_touch)


async def test_a_server_that_is_busy_is_given_the_time_it_asks_for(api_server):
    api_server.add_fault(FaultKind.STATUS, verb="list", status=429, reason="TooManyRequests", retry_after_s=17, count=2)
    async with following(api_server, (MAPS,)) as follower:
        await follower.until(follower.is_in_touch)
        assert all(17 < pause < 18 for pause in follower.clock.pauses)
        assert len(follower.clock.pauses) == 2


async def test_a_watch_that_hangs_is_opened_again(api_server):
    api_server.add_fault(FaultKind.WATCH_HANG, verb="watch")
    async with following(api_server, (MAPS,), client={"silence_limit_s": 0.3}) as follower:
        await follower.until(lambda: follower.names(ConfigMap) == [] and follower.count_lists(ConfigMap) == 1)
        api_server.apply(build_map("a"))
        await follower.until(lambda: follower.names(ConfigMap) == ["a"])
        assert follower.count_lists(ConfigMap) == 1


@pytest.mark.parametrize("kind", [FaultKind.WATCH_GARBAGE, FaultKind.WATCH_EXPIRED])
async def test_a_watch_that_says_what_cannot_be_read_is_begun_with_a_list(api_server, kind):
    api_server.add_fault(kind, verb="watch", after_events=1)
    async with following(api_server, (MAPS,)) as follower:
        await follower.until(follower.is_in_touch)
        api_server.apply([build_map("a"), build_map("b")])
        await follower.until(lambda: follower.count_lists(ConfigMap) == 2 and follower.is_in_touch())
        assert follower.names(ConfigMap) == ["a", "b"]


# --- ends and starts -----------------------------------------------------------------------------------------------


async def test_a_bug_in_one_watch_starts_the_source_again(api_server, caplog):
    api_server.apply([DEFINITION, build_thing("b", "high"), build_map("a")])
    async with following(api_server) as follower:
        await follower.until(lambda: follower.names(ConfigMap) == ["a"] and len(follower.problems) == 1)
        follower.client.surprise = "things"
        api_server.compact()
        api_server.end_watches()
        await follower.until(lambda: follower.restarts > 2)
        assert "source kubernetes failed: RuntimeError: a bug" in caplog.text
        assert not follower.is_in_touch()
        assert follower.names(ConfigMap) == ["a"]
        api_server.delete("things", "b")
        api_server.compact()
        follower.client.surprise = None
        await follower.until(follower.is_in_touch)
        assert follower.problems == {}


async def test_a_source_that_cannot_be_started_again_is_out_of_touch_from_when_it_was_lost(api_server):
    async with following(api_server, CORE_KINDS) as follower:
        await follower.until(follower.is_in_touch)
        lost_at = follower.clock.now
        api_server.stop_listening()
        await follower.until(lambda: follower.source.out_of_touch_s > 0)
        lost_at = follower.clock.now - follower.source.out_of_touch_s
        follower.client.surprise = "/api"
        await follower.until(lambda: follower.restarts > 3)
        follower.client.surprise = None
        await follower.until(lambda: "kubernetes" in follower.problems)
        assert follower.source.out_of_touch_s == pytest.approx(follower.clock.now - lost_at)
        api_server.resume()
        await follower.until(follower.is_in_touch)


async def drain(batches, events):
    async for batch in batches:
        events += batch


async def test_what_was_reported_before_a_failure_is_not_lost():
    class Failing(Flood):
        async def watch_lines(self, path, query, *, silence_limit_s):
            async for lines in super().watch_lines(path, query, silence_limit_s=silence_limit_s):
                yield lines
                if self.told == self.count:
                    raise RuntimeError("a bug")

    batches = KubernetesSource(Failing(3)).watch_events((MAPS,))
    events = list(await anext(batches))
    for _ in range(20):
        await asyncio.sleep(0)
    with pytest.raises(RuntimeError):
        await drain(batches, events)
    assert sum(isinstance(event, Applied) for event in events) == 3


@pytest.mark.parametrize("is_away", [True, False])
async def test_a_source_that_is_closed_leaves_nothing_behind(api_server, is_away):
    if is_away:
        api_server.stop_listening()
    async with following(api_server, CORE_KINDS) as follower:
        await follower.until(lambda: follower.batches)


# --- whatever happens ----------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c"])
STEPS = st.one_of(
    st.tuples(st.just("map"), NAMES, st.integers(0, 9)),
    st.tuples(st.just("map"), NAMES, st.integers(0, 9)),
    st.tuples(st.just("unmap"), NAMES),
    st.tuples(st.just("thing"), NAMES, st.sampled_from([1, 2, 3, "high", None])),
    st.tuples(st.just("unthing"), NAMES),
    st.tuples(st.sampled_from(["undefine", "compact", "end_watches", "cut_connections", "bookmarks", "restart"])),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.001, 0.01])),
    st.tuples(
        st.just("fault"),
        st.sampled_from([kind for kind in FaultKind if kind not in (FaultKind.CONFLICT, FaultKind.DELAY)]),
        st.sampled_from(["get", "list", "watch", "*"]),
        st.integers(0, 2),
        st.sampled_from([403, 404, 410, 429, 500, 503]),
    ),
)


def do(server, action, *details):
    """Do a step at the server; what it refuses was none."""
    with suppress(Exception):
        if action == "map":
            server.apply(build_map(details[0], x=str(details[1])))
        elif action == "unmap":
            server.delete("configmaps", details[0], "default")
        elif action == "thing":
            server.apply([DEFINITION, build_thing(*details)])
        elif action == "unthing":
            server.delete("things", details[0])
        elif action == "undefine":
            server.delete("customresourcedefinitions", "things.acme.example")
            server.compact()  # a server that serves a kind anew knows nothing of what it was
        elif action == "restart":
            server.stop_listening()
            server.resume()
        elif action == "bookmarks":
            server.send_bookmarks("configmaps")
        elif action == "fault":
            kind, verb, after, status = details
            server.add_fault(kind, verb=verb, count=2, skip=after, after_events=after, status=status)
        else:
            getattr(server, action)()


def read_server(server):
    """What a source should know in the end, and what it should find wrong."""
    maps = {each["metadata"]["name"]: each["data"] for each in server.list("configmaps")}
    try:
        things = {each["metadata"]["name"]: each.get("level") for each in server.list("things")}
    except Exception:
        things = {}
    bad = {f"kubernetes things {name}@" for name, level in things.items() if isinstance(level, str)}
    return maps, {name: level or 0 for name, level in things.items() if not isinstance(level, str)}, bad


def read_follower(follower):
    found = follower.snapshot
    maps = {key.name: found.get(ConfigMap, key).data for key in found.keys(ConfigMap)}
    things = {key.name: found.get(Thing, key).level for key in found.keys(Thing)}
    return maps, things, set(found.problems)


async def follow_through(steps):
    with ApiServer() as server:
        async with following(server, client={"silence_limit_s": 0.5}) as follower:
            for step in steps:
                if step[0] == "wait":
                    await asyncio.sleep(step[1])
                else:
                    await asyncio.to_thread(do, server, *step)
            server.clear_faults()
            wanted = read_server(server)
            await follower.until(lambda: read_follower(follower) == wanted)
            assert follower.restarts == 0


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, min_size=3, max_size=25))
def test_whatever_happens_the_source_knows_in_the_end_what_the_server_has(steps):
    asyncio.run(follow_through(steps))
