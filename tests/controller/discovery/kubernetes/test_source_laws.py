"""After any sequence of changes and faults, the source knows what the server has."""

import asyncio
from contextlib import suppress

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maesh_testing.api_server import ApiServer, FaultKind

from .source_follower import DEFINITION, ConfigMap, Thing, build_map, build_thing, following

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
            server.compact()  # a server that serves a kind again does not know its former objects
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
def test_the_source_has_the_servers_objects_after_random_changes_and_faults(steps):
    asyncio.run(follow_through(steps))
