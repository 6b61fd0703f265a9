"""A whole source against the API server: what it reports, and how it starts and ends."""

import asyncio
import json

import pytest

from maesh_core.controller.discovery.kubernetes.source import QUEUE_LIMIT, KubernetesSource
from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.model.events import Applied, Replaced
from maesh_core.model.resources import Endpoints, EndpointSlice, Namespace, ResourceKind, Service
from maesh_testing.api_server import FaultKind

from .source_follower import (
    DEFINITION,
    KINDS,
    LIMIT_S,
    MAPS,
    ConfigMap,
    Thing,
    build_map,
    build_service,
    build_thing,
    following,
)


async def test_existing_objects_are_reported_and_then_their_changes(api_server):
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


async def test_a_fallback_kind_without_a_primary_is_followed(api_server):
    lone = ResourceKind(name="ConfigMap", plural="configmaps", api_versions=("v1",), type=ConfigMap, fallback_of=Thing)
    api_server.apply(build_map("a"))
    async with following(api_server, (lone,)) as follower:
        await follower.until(lambda: follower.names(ConfigMap) == ["a"])


async def test_a_source_without_kinds_is_in_touch(api_server):
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


async def test_events_that_arrive_between_two_reads_are_one_batch():
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


async def test_a_watch_waits_for_a_slow_reader():
    client = Flood(10 * QUEUE_LIMIT)
    batches = KubernetesSource(client).watch_events((MAPS,))
    for _ in range(2):
        await anext(batches)
    for _ in range(100 * QUEUE_LIMIT):
        await asyncio.sleep(0)
    assert client.told <= 2 * QUEUE_LIMIT
    await batches.aclose()


async def test_a_bug_in_one_watch_restarts_the_source(api_server, caplog):
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


async def test_a_source_that_cannot_be_restarted_is_out_of_touch_since_its_failure(api_server):
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


async def test_events_before_a_failure_are_not_lost():
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
