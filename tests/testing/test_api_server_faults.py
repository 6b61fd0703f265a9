"""Every fault, as a client sees it, and what has been done when it comes."""

import asyncio
import json

import aiohttp
import pytest

from maesh_testing.api_server import FaultKind

MAPS = "/api/v1/namespaces/default/configmaps"
ITEM = {"metadata": {"name": "a"}, "data": {"x": "1"}}


async def test_a_status_in_place_of_what_was_asked_for(raw, api_server):
    api_server.add_fault(FaultKind.STATUS, verb="create", status=429, reason="TooManyRequests", retry_after_s=7)
    status, found, headers = await raw.send("POST", MAPS, ITEM)
    assert (status, found["reason"], found["details"]["retryAfterSeconds"]) == (429, "TooManyRequests", 7)
    assert headers["Retry-After"] == "7"
    assert api_server.list("configmaps") == []
    assert (await raw("POST", MAPS, ITEM))[0] == 201


async def test_a_connection_that_breaks_before_anything_is_done(raw, api_server):
    api_server.add_fault(FaultKind.CLOSE_BEFORE)
    with pytest.raises(aiohttp.ClientError):
        await raw("POST", MAPS, ITEM)
    assert api_server.list("configmaps") == []


async def test_a_connection_that_breaks_when_all_is_done(raw, api_server):
    api_server.add_fault(FaultKind.CLOSE_AFTER)
    with pytest.raises(aiohttp.ClientError):
        await raw("POST", MAPS, ITEM)
    assert [each["metadata"]["name"] for each in api_server.list("configmaps")] == ["a"]


@pytest.mark.parametrize("kind", [FaultKind.HANG, FaultKind.HANG_MID_ANSWER])
async def test_a_fault_can_hang_before_or_after_the_change(raw, api_server, kind):
    api_server.add_fault(kind)
    call = asyncio.create_task(raw("POST", MAPS, ITEM))
    done, _ = await asyncio.wait([call], timeout=0.2)
    assert not done
    assert len(api_server.list("configmaps")) == (kind is FaultKind.HANG_MID_ANSWER)
    call.cancel()


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (FaultKind.GARBAGE, ValueError),
        (FaultKind.CUT_JSON, json.JSONDecodeError),
        (FaultKind.WRONG_LENGTH, aiohttp.ClientPayloadError),
    ],
)
async def test_an_answer_that_is_none(raw, api_server, kind, error):
    api_server.add_fault(kind)
    with pytest.raises(error):
        await raw("POST", MAPS, ITEM)
    assert len(api_server.list("configmaps")) == 1


async def test_a_fault_can_be_another_writer_that_is_faster(raw, api_server):
    _, found = await raw("POST", MAPS, ITEM)
    fault = api_server.add_fault(FaultKind.CONFLICT, verb="update", name="a", count=None)
    for _ in range(3):
        assert (await raw("PUT", f"{MAPS}/a", found | {"data": {}}))[0] == 409
        _, found = await raw("GET", f"{MAPS}/a")
    assert (fault.hits, found["data"]) == (3, {"x": "1"})
    api_server.clear_faults()
    assert (await raw("PUT", f"{MAPS}/a", found | {"data": {}}))[0] == 200


async def test_calls_are_spared_before_a_fault(raw, api_server):
    api_server.add_fault(FaultKind.STATUS, resource="configmaps", skip=2, count=2, status=503)
    assert [(await raw("GET", MAPS))[0] for _ in range(5)] == [200, 200, 503, 503, 200]


async def test_a_delay_comes_before_the_answer(raw, api_server):
    fault = api_server.add_fault(FaultKind.DELAY, delay_s=0.01)
    assert (await raw("GET", MAPS))[0] == 200
    assert fault.hits == 1


async def test_a_document_can_fail_too(raw, api_server):
    api_server.add_fault(FaultKind.STATUS, resource="/apis/*", status=503)
    assert (await raw("GET", "/api/v1"))[0] == 200
    assert (await raw("GET", "/apis/apps/v1"))[0] == 503


async def start(raw, api_server, kind, **fields):
    api_server.add_fault(kind, verb="watch", after_events=1, **fields)
    api_server.apply([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}} for name in "ab"])
    return raw.watch(MAPS)


async def test_a_watch_that_ends_early(raw, api_server):
    async with await start(raw, api_server, FaultKind.WATCH_END) as read:
        assert (await read())["type"] == "ADDED"
        assert await read() is None


async def test_a_watch_that_breaks_in_a_line(raw, api_server):
    async with await start(raw, api_server, FaultKind.WATCH_CUT) as read:
        assert (await read())["type"] == "ADDED"
        with pytest.raises(aiohttp.ClientPayloadError):
            await read()


async def test_a_fault_can_put_garbage_into_a_watch(raw, api_server):
    async with await start(raw, api_server, FaultKind.WATCH_GARBAGE, body=b"<html>") as read:
        assert (await read())["type"] == "ADDED"
        with pytest.raises(json.JSONDecodeError):
            await read()
        assert (await read())["object"]["metadata"]["name"] == "b"


async def test_a_fault_can_expire_a_watch(raw, api_server):
    async with await start(raw, api_server, FaultKind.WATCH_EXPIRED) as read:
        assert (await read())["type"] == "ADDED"
        event = await read()
        assert (event["type"], event["object"]["code"]) == ("ERROR", 410)
        assert await read() is None


async def test_a_watch_that_says_nothing_more(raw, api_server):
    async with await start(raw, api_server, FaultKind.WATCH_HANG) as read:
        assert (await read())["type"] == "ADDED"
        reading = asyncio.create_task(read())
        done, _ = await asyncio.wait([reading], timeout=0.2)
        assert not done
        reading.cancel()
