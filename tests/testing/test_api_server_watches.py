"""Watches: where they start, what they tell, and how they end."""

import asyncio
import json

import pytest

from maesh_testing.api_server import ApiServer
from maesh_testing.commands import wait_until

MAPS = "/api/v1/configmaps"


def build_map(name, namespace="default", text="", **labels):
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"x": text}}


def shorten(event):
    return event["type"], event["object"]["metadata"]["name"]


async def test_a_watch_delivers_what_happens_after_its_version(raw, api_server):
    api_server.apply(build_map("old"))
    async with raw.watch(f"{MAPS}?resourceVersion={api_server.version}") as read:
        (added,) = api_server.apply(build_map("a"))
        api_server.patch("configmaps", "a", {"data": {"x": "2"}}, "default")
        api_server.delete("configmaps", "a", "default")
        events = [await read() for _ in range(3)]
    assert [shorten(event) for event in events] == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]
    assert events[0]["object"] == added
    assert (added["kind"], added["apiVersion"]) == ("ConfigMap", "v1")
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert versions == sorted(set(versions))
    assert events[2]["object"]["data"] == {"x": "2"}


async def test_a_watch_catches_up_with_what_happened_before_it_was_opened(raw, api_server):
    (first,) = api_server.apply(build_map("a"))
    api_server.delete("configmaps", "a", "default")
    api_server.apply(build_map("b"))
    async with raw.watch(f"{MAPS}?resourceVersion={first['metadata']['resourceVersion']}") as read:
        assert [shorten(await read()) for _ in range(2)] == [("DELETED", "a"), ("ADDED", "b")]


@pytest.mark.parametrize("version", ["", "resourceVersion=0", "resourceVersion="])
async def test_a_watch_without_a_version_begins_with_all_that_is_there(raw, api_server, version):
    api_server.apply([build_map("a"), build_map("b")])
    async with raw.watch(f"{MAPS}?{version}") as read:
        assert [shorten(await read()) for _ in range(2)] == [("ADDED", "a"), ("ADDED", "b")]
        api_server.apply(build_map("c"))
        assert shorten(await read()) == ("ADDED", "c")


async def test_a_watch_of_a_namespace_delivers_no_other(raw, api_server):
    async with raw.watch("/api/v1/namespaces/shop/configmaps") as read:
        api_server.apply([build_map("a"), build_map("b", "shop")])
        assert shorten(await read()) == ("ADDED", "b")


async def test_an_object_that_leaves_the_selection_is_deleted_and_one_that_enters_added(raw, api_server):
    api_server.apply(build_map("a", tier="x"))
    async with raw.watch(f"{MAPS}?labelSelector=tier%3Dx&resourceVersion={api_server.version}") as read:
        api_server.apply(build_map("a", text="1", tier="x"))
        api_server.apply(build_map("a", text="2", tier="y"))
        api_server.apply(build_map("a", text="3", tier="y"))
        api_server.apply(build_map("a", text="4", tier="x"))
        events = [await read() for _ in range(3)]
    assert [(event["type"], event["object"]["data"]["x"]) for event in events] == [
        ("MODIFIED", "1"),
        ("DELETED", "1"),
        ("ADDED", "4"),
    ]


async def test_a_watch_may_be_of_one_name(raw, api_server):
    async with raw.watch(f"{MAPS}?fieldSelector=metadata.name%3Db") as read:
        api_server.apply([build_map("a"), build_map("b")])
        assert shorten(await read()) == ("ADDED", "b")
    assert api_server.calls[-1].name == "b"


async def test_a_watch_from_a_forgotten_version_is_told_so(raw, api_server):
    api_server.apply(build_map("a"))
    version = api_server.version
    api_server.compact()
    async with raw.watch(f"{MAPS}?resourceVersion={version}") as read:
        event = await read()
        assert event["type"] == "ERROR"
        status = event["object"]
        assert (status["kind"], status["code"], status["reason"]) == ("Status", 410, "Expired")
        assert status["message"].startswith(f"too old resource version: {version} (")
        assert await read() is None
    async with raw.watch(f"{MAPS}?resourceVersion={api_server.version}") as read:
        api_server.apply(build_map("b"))
        assert shorten(await read()) == ("ADDED", "b")


def test_history_is_bounded():
    with ApiServer(history_limit=2) as server:
        for number in range(4):
            server.apply(build_map(f"a-{number}"))
        resource = server._find("configmaps")
        assert server._store.get_oldest(resource) == server.version - 2


async def test_a_watch_ends_after_its_time_with_a_bookmark(raw, api_server):
    query = f"timeoutSeconds=1&allowWatchBookmarks=true&resourceVersion={api_server.version}"
    async with raw.watch(f"{MAPS}?{query}") as read:
        event = await read()
        assert (event["type"], event["object"]["kind"]) == ("BOOKMARK", "ConfigMap")
        assert event["object"]["metadata"]["resourceVersion"] == str(api_server.version)
        assert await read() is None


async def test_bookmarks_come_to_those_who_take_them_and_carry_the_version(raw, api_server):
    async with raw.watch(f"{MAPS}?allowWatchBookmarks=true") as read, raw.watch(MAPS) as read_others:
        api_server.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}})
        api_server.send_bookmarks("configmaps")
        event = await read()
        assert event["object"]["metadata"]["resourceVersion"] == str(api_server.version)
        api_server.apply(build_map("a"))
        assert shorten(await read_others()) == ("ADDED", "a")


async def test_a_watch_may_ask_for_a_mark_after_all_that_is_there(raw, api_server):
    api_server.apply(build_map("a"))
    query = "allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
    async with raw.watch(f"{MAPS}?{query}") as read:
        assert shorten(await read()) == ("ADDED", "a")
        mark = await read()
        assert mark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_watches_are_counted_and_ended(raw, api_server):
    async with raw.watch(MAPS) as read:
        wait_until(lambda: api_server.count_watches("configmaps") == 1, "the watch stands")
        api_server.end_watches("configmaps")
        assert await read() is None
    wait_until(lambda: api_server.count_watches("configmaps") == 0, "the watch is gone")


async def test_a_watch_that_its_client_leaves_is_forgotten(raw, api_server):
    async with raw.watch(MAPS):
        wait_until(lambda: api_server.count_watches("configmaps") == 1, "the watch stands")
    await asyncio.to_thread(wait_until, lambda: api_server.count_watches("configmaps") == 0, "the watch is gone")


async def test_prepared_pages_come_as_they_are_and_events_follow_them(raw, api_server):
    pages = [
        b'{"kind":"ServiceList","apiVersion":"v1","metadata":{"resourceVersion":"900","continue":"1"},"items":[]}',
        b'{"kind":"ServiceList","apiVersion":"v1","metadata":{"resourceVersion":"900"},"items":[ ]}',
    ]
    api_server.serve_canned("services", pages)
    for path, page in (("/api/v1/services?limit=5", pages[0]), ("/api/v1/services?continue=1", pages[1])):
        async with raw.session.get(raw.server.url + path, headers=raw.headers) as response:
            assert await response.read() == page
    assert (await raw("GET", "/api/v1/services?continue=2"))[0] == 400
    async with raw.watch("/api/v1/services?resourceVersion=900") as read:
        found = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "namespace": "n"}}
        for kind in ("ADDED", "MODIFIED", "DELETED"):
            version = api_server.emit("services", kind, found)
            event = await read()
            assert (event["type"], event["object"]["metadata"]["resourceVersion"]) == (kind, version)
    assert int(version) == 903


async def test_hooks_hear_of_changes_and_may_change_more(api_server):
    heard = []

    def answer(kind, plural, found):
        heard.append((kind, plural, found["metadata"]["name"]))
        if (kind, found["metadata"]["name"]) == ("ADDED", "a"):
            api_server.apply(build_map("b"))

    api_server.on_change(answer)
    api_server.apply(build_map("a"))
    assert heard == [("ADDED", "configmaps", "a"), ("ADDED", "configmaps", "b")]
    assert json.dumps(api_server.list("configmaps"))
