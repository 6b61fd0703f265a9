"""A source whose API server is away, busy, forgetful, or sends what cannot be read."""

import pytest

from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.model.events import Deleted
from maesh_core.model.resources import Pod, Service
from maesh_testing.api_server import FaultKind

from .source_follower import DEFINITION, MAPS, ConfigMap, Thing, build_map, build_service, build_thing, following


async def test_an_unreachable_server_is_a_problem_until_it_answers(api_server):
    api_server.stop_listening()
    async with following(api_server, CORE_KINDS) as follower:
        await follower.until(lambda: "kubernetes" in follower.problems and len(follower.clock.pauses) > 3)
        assert "the cluster cannot be read" in follower.problems["kubernetes"]
        assert follower.source.out_of_touch_s == follower.clock.now - 1000.0 > 0
        assert "not following" in repr(follower.source)
        api_server.resume()
        await follower.until(follower.is_in_touch)
        assert follower.restarts == 0


async def test_a_server_that_returns_is_watched_without_another_list(api_server):
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
async def test_a_watch_that_ends_or_breaks_resumes_at_its_version(api_server, how):
    async with following(api_server, (MAPS,)) as follower:
        await follower.until(follower.is_in_touch)
        for number in range(3):
            getattr(api_server, how)()
            api_server.apply(build_map(f"m{number}"))
            await follower.until(lambda name=f"m{number}": name in follower.names(ConfigMap))
        assert follower.count_lists(ConfigMap) == 1


async def test_bookmarks_keep_the_version_of_a_quiet_watch_recent(api_server):
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


async def test_objects_that_were_deleted_in_a_forgotten_history_are_removed(api_server):
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


async def test_an_expired_continue_token_restarts_the_list(api_server, monkeypatch):
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


async def test_a_forbidden_kind_is_a_problem_until_it_is_allowed(api_server):
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


async def test_a_busy_server_is_asked_again_after_the_time_it_requests(api_server):
    api_server.add_fault(FaultKind.STATUS, verb="list", status=429, reason="TooManyRequests", retry_after_s=17, count=2)
    async with following(api_server, (MAPS,)) as follower:
        await follower.until(follower.is_in_touch)
        assert all(17 < pause < 18 for pause in follower.clock.pauses)
        assert len(follower.clock.pauses) == 2


async def test_a_hanging_watch_is_reopened(api_server):
    api_server.add_fault(FaultKind.WATCH_HANG, verb="watch")
    async with following(api_server, (MAPS,), client={"silence_limit_s": 0.3}) as follower:
        await follower.until(lambda: follower.names(ConfigMap) == [] and follower.count_lists(ConfigMap) == 1)
        api_server.apply(build_map("a"))
        await follower.until(lambda: follower.names(ConfigMap) == ["a"])
        assert follower.count_lists(ConfigMap) == 1


@pytest.mark.parametrize("kind", [FaultKind.WATCH_GARBAGE, FaultKind.WATCH_EXPIRED])
async def test_a_watch_with_unreadable_events_restarts_with_a_list(api_server, kind):
    api_server.add_fault(kind, verb="watch", after_events=1)
    async with following(api_server, (MAPS,)) as follower:
        await follower.until(follower.is_in_touch)
        api_server.apply([build_map("a"), build_map("b")])
        await follower.until(lambda: follower.count_lists(ConfigMap) == 2 and follower.is_in_touch())
        assert follower.names(ConfigMap) == ["a", "b"]
