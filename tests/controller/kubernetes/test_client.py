"""Requests and watches against a server that errs in every way: an answer, or a KubernetesError in one line."""

import asyncio
import contextlib
import json
from contextlib import aclosing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maesh_core.controller.kubernetes import client as module
from maesh_core.controller.kubernetes.client import KubernetesClient
from maesh_core.controller.kubernetes.credentials import Access, Credentials
from maesh_core.controller.kubernetes.paths import MERGE_PATCH, build_path
from maesh_core.errors import KubernetesError
from maesh_testing.api_server import FaultKind
from maesh_testing.commands import wait_until

MAPS = "/api/v1/namespaces/default/configmaps"
ITEM = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": "1"}}
GARBAGE = (b"", b"{", b"null", b"[]", b'{"message": 1}', b"\xff\xfe", b"[" * 100_000, b'{"message": "a\\nb"}')


async def watch(client, path=MAPS, silence_limit_s=10.0, **query):
    """Read a watch to its end; return its lines."""
    lines = []
    async with aclosing(client.watch_lines(path, {"watch": "true", **query}, silence_limit_s=silence_limit_s)) as found:
        async for batch in found:
            lines += batch
    return lines


async def fail(call):
    """Return the error of a call, which is one line."""
    with pytest.raises(KubernetesError) as caught:
        await call
    assert "\n" not in str(caught.value)
    return caught.value


async def test_objects_are_created_read_changed_and_deleted(client, api_server):
    assert json.loads(await client.send("POST", MAPS, ITEM))["metadata"]["namespace"] == "default"
    found = json.loads(await client.get(f"{MAPS}/a"))
    await client.send("PUT", f"{MAPS}/a", found | {"data": {"x": "2"}})
    await client.send("PATCH", f"{MAPS}/a", {"data": {"y": "3"}}, content_type=MERGE_PATCH)
    assert api_server.get("configmaps", "a", "default")["data"] == {"x": "2", "y": "3"}
    assert len(json.loads(await client.get(MAPS, {"labelSelector": "!a,b notin (c)"}))["items"]) == 1
    await client.send("DELETE", f"{MAPS}/a", {"preconditions": {"uid": found["metadata"]["uid"]}})
    assert api_server.list("configmaps") == []


async def test_a_name_that_is_no_path_stays_a_name(client):
    error = await fail(client.get(build_path("v1", "configmaps", namespace="default", name="../x?y=1#z")))
    assert (error.status, error.reason) == (404, "NotFound")
    assert '"../x?y=1#z" not found' in str(error)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "reason"),
    [
        ("GET", f"{MAPS}/b", None, 404, "NotFound"),
        ("POST", MAPS, ITEM, 409, "AlreadyExists"),
        ("PUT", f"{MAPS}/a", ITEM | {"metadata": {"resourceVersion": "1"}}, 409, "Conflict"),
        ("POST", MAPS, {"metadata": {"name": "A"}}, 422, "Invalid"),
        ("POST", MAPS, {}, 422, "Invalid"),
        ("GET", "/nowhere", None, 404, "NotFound"),
        ("PUT", MAPS, ITEM, 405, "MethodNotAllowed"),
    ],
)
async def test_a_refusal_has_status_and_reason(client, api_server, method, path, body, status, reason):
    api_server.apply(ITEM)
    error = await fail(client.send(method, path, body))
    assert (error.status, error.reason) == (status, reason)
    assert str(error).startswith(f"{method} {path}: {status} ")


async def test_a_long_refusal_is_read_whole_and_reported_in_part(client):
    labels = {f"{number}": "x y" * 30 for number in range(3000)}
    error = await fail(client.send("POST", MAPS, {"metadata": {"name": "a", "labels": labels}}))
    assert (error.status, error.reason) == (422, "Invalid")
    assert len(str(error)) < 700


@pytest.mark.parametrize(("header", "seconds"), [(7, 7.0), (0, 0.0), (99999, 60.0), (None, None), (10**9, None)])
async def test_a_server_may_ask_to_wait(client, api_server, header, seconds):
    api_server.add_fault(FaultKind.STATUS, status=429, reason="TooManyRequests", retry_after_s=header)
    error = await fail(client.get(MAPS))
    assert (error.status, error.reason, error.retry_after_s) == (429, "TooManyRequests", seconds)


@pytest.mark.parametrize("kind", [FaultKind.HANG, FaultKind.HANG_MID_ANSWER])
async def test_a_server_that_hangs_is_given_up(client, api_server, kind):
    api_server.apply(ITEM)
    api_server.add_fault(kind)
    error = await fail(client.send("GET", f"{MAPS}/a", timeout_s=0.1))
    assert (error.status, str(error)) == (0, f"GET {MAPS}/a: no answer in time")
    assert json.loads(await client.get(f"{MAPS}/a"))["data"] == {"x": "1"}


async def test_a_server_that_is_down_is_an_error_and_one_that_is_back_is_not(client, api_server):
    await client.get(MAPS)
    api_server.stop_listening()
    error = await fail(client.get(MAPS))
    assert error.status == 0
    assert str(error).endswith(f"no connection: 127.0.0.1:{api_server.port}: Connection refused")
    api_server.resume()
    await client.get(MAPS)


async def test_an_answer_that_is_cut_is_an_error(client, api_server):
    api_server.add_fault(FaultKind.WRONG_LENGTH)
    assert (await fail(client.get(MAPS))).status == 0


async def test_a_lost_answer_to_a_creation_is_an_error_though_it_was_done(client, api_server):
    await client.get(MAPS)
    api_server.add_fault(FaultKind.CLOSE_AFTER, verb="create")
    assert (await fail(client.send("POST", MAPS, ITEM))).status == 0
    assert len(api_server.list("configmaps")) == 1
    assert (await fail(client.send("POST", MAPS, ITEM))).reason == "AlreadyExists"


async def test_a_lost_answer_to_an_update_comes_back_as_a_conflict_for_it_is_sent_once_more(client, api_server):
    api_server.apply(ITEM)
    found = json.loads(await client.get(f"{MAPS}/a"))
    api_server.add_fault(FaultKind.CLOSE_AFTER, verb="update")
    error = await fail(client.send("PUT", f"{MAPS}/a", found | {"data": {"x": "2"}}))
    assert (error.status, error.reason) == (409, "Conflict")
    assert api_server.get("configmaps", "a", "default")["data"] == {"x": "2"}


async def test_an_answer_that_is_too_large_is_not_read(client, api_server, monkeypatch):
    monkeypatch.setattr(module, "ANSWER_LIMIT_BYTES", 50_000)
    api_server.apply(ITEM | {"data": {"x": "y" * 100_000}})
    assert str(await fail(client.get(MAPS))) == f"GET {MAPS}: the answer is over 50000 bytes"


async def test_a_large_answer_comes_compressed_and_whole(client, api_server):
    page = b'{"metadata":{"resourceVersion":"9"},"items":[%b]}' % b",".join(b"{}" for _ in range(10**6))
    api_server.serve_canned("configmaps", [page])
    assert await client.get(MAPS) == page


async def test_redirects_are_not_followed(client, api_server):
    api_server.add_fault(FaultKind.STATUS, status=307, reason="")
    assert (await fail(client.get(MAPS))).status == 307


async def test_a_watch_stands_before_anything_happens_and_gives_lines(client, api_server):
    query = {"watch": "true", "resourceVersion": str(api_server.version)}
    async with aclosing(client.watch_lines(MAPS, query, silence_limit_s=10)) as batches:
        assert await anext(batches) == []
        api_server.apply(ITEM)
        (line,) = await anext(batches)
        assert json.loads(line)["type"] == "ADDED"
        api_server.end_watches()
        with pytest.raises(StopAsyncIteration):
            await anext(batches)


async def test_a_watch_ends_when_the_server_ends_it(client, api_server):
    api_server.add_fault(FaultKind.WATCH_END, after_events=3)
    api_server.apply([ITEM | {"metadata": {"name": f"a-{number}"}} for number in range(5)])
    assert len(await watch(client)) == 3


async def test_a_watch_yields_long_lines_whole(client, api_server):
    text = "y" * 1_000_000
    for number in range(4):
        api_server.apply(ITEM | {"metadata": {"name": f"a-{number}"}, "data": {"x": text}})
    api_server.add_fault(FaultKind.WATCH_END, after_events=4)
    assert [len(json.loads(line)["object"]["data"]["x"]) for line in await watch(client)] == [len(text)] * 4


async def test_a_line_that_does_not_end_is_given_up(client, api_server, monkeypatch):
    monkeypatch.setattr(module, "LINE_LIMIT_BYTES", 10_000)
    api_server.apply(ITEM | {"data": {"x": "y" * 1_000_000}})
    assert "a line of the watch is over 10000 bytes" in str(await fail(watch(client)))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (FaultKind.HANG, "no answer in time"),
        (FaultKind.WATCH_HANG, "no answer in time"),
        (FaultKind.WATCH_CUT, ""),
        (FaultKind.CLOSE_BEFORE, ""),
        (FaultKind.STATUS, "500 an error"),
    ],
)
async def test_a_watch_that_breaks_hangs_or_is_refused_is_an_error(client, api_server, kind, text):
    api_server.add_fault(kind, verb="watch")
    assert text in str(await fail(watch(client, silence_limit_s=0.2)))


async def test_the_silence_of_a_watch_is_counted_again_with_every_batch(client, api_server):
    query = {"watch": "true"}
    async with aclosing(client.watch_lines(MAPS, query, silence_limit_s=30)) as batches:
        await anext(batches)
        for number in range(3):
            api_server.apply(ITEM | {"metadata": {"name": f"a-{number}"}})
            assert len(await anext(batches)) == 1
    assert "no answer in time" in str(await fail(watch(client, silence_limit_s=0.1, resourceVersion="5")))


async def test_a_watch_that_is_left_is_closed(client, api_server):
    async with aclosing(client.watch_lines(MAPS, {"watch": "true"}, silence_limit_s=10)) as batches:
        await anext(batches)
        assert api_server.count_watches("configmaps") == 1
    await asyncio.to_thread(wait_until, lambda: api_server.count_watches("configmaps") == 0, "the watch is gone")


@contextlib.asynccontextmanager
async def serve(answer):
    """Serve connections with a coroutine; return a client."""
    tasks = []

    async def handle(reader, writer):
        tasks.append(asyncio.current_task())
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await answer(reader, writer)
            writer.close()
            await writer.wait_closed()

    async def load():
        return Access(server=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")

    async with await asyncio.start_server(handle, "127.0.0.1") as server:
        client = KubernetesClient(Credentials(load))
        try:
            yield client
        finally:
            await client.close()
            await asyncio.gather(*tasks)


def answer_with(content):
    """Serve connections that get these bytes, whatever they ask, and end; return a client."""

    async def answer(reader, writer):
        await reader.read(1)
        writer.write(content)

    return serve(answer)


async def try_everything(content):
    """Read and watch where these bytes come back: nothing but KubernetesError may come of it."""
    errors = []
    async with answer_with(content) as client:
        for call in (client.get(MAPS, timeout_s=10), client.send("POST", MAPS, ITEM, timeout_s=10), watch(client)):
            try:
                await call
            except KubernetesError as error:
                errors.append(str(error))
    assert not any("\n" in text for text in errors)


HEADS = (
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 500 Oh\r\n",
    b"HTTP/1.1 401 No\r\n",
    b"HTTP/1.0 200 OK\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\n",
    b"HTTP/1.1 204 None\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: http://[\r\n",
    b"HTTP/1.1 999 \r\n",
    b"HTTP/9.9 x\r\n",
    b"",
)
FIELDS = (
    b"Content-Type: application/json\r\n",
    b"Content-Type: application/json; charset=nonsense\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: nonsense\r\n",
    b"Content-Encoding: gzip\r\n",
    b"Content-Encoding: br\r\n",
    b"Content-Encoding: deflate\r\n",
    b"Connection: close\r\n",
    b"Set-Cookie: a=\xff; expires=never; domain=..\r\n",
    b"Retry-After: \xb2\r\n",
    b"Retry-After: -1\r\n",
    b"X: " + b"y" * 20_000 + b"\r\n",
    b" folded\r\n",
    b"\x00: \x00\r\n",
)
BODIES = (b"", b"5\r\nhello\r\n0\r\n\r\n", b"5\r\nhel", b"zz\r\n", b"\x1f\x8b\x08\x00garbage", b"\x1f\x8b", *GARBAGE)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(
    head=st.sampled_from(HEADS),
    fields=st.lists(st.sampled_from(FIELDS), max_size=4),
    body=st.one_of(st.sampled_from(BODIES), st.binary(max_size=200)),
)
def test_no_answer_in_http_makes_anything_but_a_kubernetes_error(head, fields, body):
    asyncio.run(try_everything(head + b"".join(fields) + b"\r\n" + body))


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(content=st.binary(max_size=300))
def test_no_bytes_make_anything_but_a_kubernetes_error(content):
    asyncio.run(try_everything(content))


@pytest.mark.parametrize("body", GARBAGE)
async def test_an_error_without_a_status_object_still_has_its_status(body):
    head = b"HTTP/1.1 503 Away\r\nRetry-After: 3\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with answer_with(head + body) as client:
        error = await fail(client.get(MAPS))
    assert (error.status, error.reason, error.retry_after_s) == (503, "", 3.0)


async def test_an_error_whose_body_breaks_still_has_its_status():
    async with answer_with(b'HTTP/1.1 503 Away\r\nContent-Length: 100\r\n\r\n{"mess') as client:
        error = await fail(client.get(MAPS))
    assert (error.status, str(error)) == (503, f"GET {MAPS}: 503 Away")


async def test_an_error_that_comes_in_pieces_is_put_together():
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        body = b'{"kind":"Status","message":"no","reason":"AlreadyExists","code":409}'
        writer.write(b"HTTP/1.1 409 Conflict\r\nContent-Length: %d\r\n\r\n" % len(body))
        for position in range(len(body)):
            writer.write(body[position : position + 1])
            await writer.drain()
            await asyncio.sleep(0.001)

    async with serve(answer) as client:
        error = await fail(client.get(MAPS))
    assert (error.reason, str(error)) == ("AlreadyExists", f"GET {MAPS}: 409 no")


async def test_a_proxy_that_refuses_is_reported_without_its_password(connect):
    async def refuse(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 407 Log in first\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        access = Access(server="https://api.acme.com", proxy=f"http://jo:secret@127.0.0.1:{port}")
        error = await fail(connect(access).get(MAPS))
    assert str(error) == f"GET {MAPS}: the proxy answered 407 Log in first"


async def test_headers_of_impersonation_are_all_sent(connect):
    heads = []

    async def answer(reader, writer):
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        groups = (("Impersonate-Group", "dev"), ("Impersonate-Group", "ops"))
        access = Access(server=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", impersonation=groups)
        await connect(access).get(MAPS)
    assert [line for line in heads[0].split("\r\n") if line.startswith("Imp")] == [
        "Impersonate-Group: dev",
        "Impersonate-Group: ops",
    ]
