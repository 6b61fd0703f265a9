"""Streams of controllers, at an address and through an API server."""

import asyncio
import json

import pytest

from maesh_core.controller.api_clients.controllers import open_apis
from maesh_core.controller.api_clients.direct_api import LINE_LIMIT_BYTES
from maesh_core.errors import MaeshError
from maesh_core.plain_http.line_stream import LineStream
from maesh_core.plain_http.messages import Response

PODS = {"items": [{"metadata": {"name": "c-1"}, "status": {"phase": "Running"}}]}
PROXIED = "/api/v1/namespaces/maesh/pods/c-1:9000/proxy"


@pytest.fixture
async def start(serve):
    """Serve a tap with lines, also as an API server that proxies to a pod; return the URL, the targets, the stream."""

    async def start_server(*lines, status=200):
        targets, stream = [], LineStream(lambda count: b"")
        for line in lines:
            stream.put(line)

        async def handle(request):
            targets.append(request.target.decode())
            if request.target.startswith(b"/api/v1/namespaces/maesh/pods?"):
                return Response(status=200, body=json.dumps(PODS).encode())
            if status != 200:
                return Response(status=status, body=b"too many taps are open\n")
            return Response(status=200, stream=stream)

        url, _ = await serve(handle)
        return url, targets, stream

    return start_server


async def follow(url="", kubeconfig="", *, silence_limit_s=5.0):
    """Follow a tap to its end; return the lines, and the text of the error if there is one."""
    lines = []
    async with open_apis(url, kubeconfig=kubeconfig, master_url="", namespace="maesh") as (api,):
        try:
            async for batch in api.follow("/api/tap", {"path": "/a b"}, silence_limit_s=silence_limit_s):
                lines += batch
        except MaeshError as error:
            return lines, str(error)
    return lines, ""


def write_kubeconfig(folder, url):
    path = folder / "kubeconfig"
    document = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    path.write_text(json.dumps(document))
    return str(path)


async def test_a_stream_is_followed_at_an_address(start):
    url, targets, stream = await start(b"{}\n", b'{"a": 1}\n')
    stream.finish()
    assert await follow(url) == ([b"{}", b'{"a": 1}'], "")
    assert targets in (["/api/tap?path=/a+b"], ["/api/tap?path=/a%20b"])


async def test_a_stream_is_followed_through_the_api_server(start, tmp_path):
    url, targets, stream = await start(b"{}\n")
    stream.finish()
    assert await follow(kubeconfig=write_kubeconfig(tmp_path, url)) == ([b"{}"], "")
    assert targets[1].partition("?")[0] == f"{PROXIED}/api/tap"


async def test_a_refusal_is_shown_in_the_controllers_words(start, tmp_path):
    url, _, _ = await start(status=503)
    assert await follow(url) == ([], "/api/tap: 503 too many taps are open")
    other, _, _ = await start(status=404)
    assert (await follow(other))[1].endswith(f"; {other} may not be a controller")
    assert "503" in (await follow(kubeconfig=write_kubeconfig(tmp_path, url)))[1]


async def test_a_controller_that_is_silent_sends_too_much_or_is_not_there_is_an_error(start, monkeypatch):
    url, _, _ = await start(b"{}\n")
    lines, text = await follow(url, silence_limit_s=0.2)
    assert (lines, text.startswith(f"lost the controller at {url}: ")) == ([b"{}"], True)
    url, _, _ = await start(b"x" * (LINE_LIMIT_BYTES + 1))
    assert (await follow(url))[1] == f"/api/tap: a line of over {LINE_LIMIT_BYTES} bytes"
    lines, text = await follow("http://127.0.0.1:1")
    assert (lines, text.startswith("no controller answers at http://127.0.0.1:1: ")) == ([], True)


async def test_a_controller_that_breaks_off_is_lost():
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n")
        await writer.drain()
        writer.transport.abort()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        assert (await follow(url))[1].startswith(f"lost the controller at {url}: ")


@pytest.mark.parametrize("is_proxied", [False, True])
async def test_a_controller_that_does_not_answer_in_the_callers_time_is_an_error(serve, tmp_path, is_proxied):
    async def handle(request):
        if not request.target.startswith(b"/api/v1/namespaces/maesh/pods?"):
            await asyncio.Event().wait()
        return Response(status=200, body=json.dumps(PODS).encode())

    url, _ = await serve(handle)
    kubeconfig = str(write_kubeconfig(tmp_path, url)) if is_proxied else ""
    async with open_apis(
        "" if is_proxied else url, kubeconfig=kubeconfig, master_url="", namespace="maesh", timeout_s=0.1
    ) as (api,):
        with pytest.raises(MaeshError):
            await api.fetch("/api/traffic")
