"""Proxies whose taps answer well, badly or never."""

import asyncio

import pytest

from maesh_core.controller.api.outgoing.tap_client import CONNECTIONS_LIMIT, HttpTapClient, choose_stream_limit
from maesh_core.errors import NodeUnreachableError
from maesh_core.model.messages import NodeReport

HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"


def build_proxy(port):
    return NodeReport(name="a", ip="127.0.0.1", ready=True, revision="e.1", last_seen="now", admin_port=port)


@pytest.fixture
async def build_client():
    clients = []

    def build(**limits):
        clients.append(HttpTapClient(**limits))
        return clients[-1]

    yield build
    for client in clients:
        await client.close()


@pytest.fixture
async def start_proxy():
    """Answer each connection with bytes, and close it unless the proxy stays silent; return the proxy and the heads."""
    servers, ended = [], asyncio.Event()

    async def start(*parts, is_silent=False):
        heads = []

        async def answer(reader, writer):
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)
            if is_silent:
                await ended.wait()
            writer.close()

        servers.append(await asyncio.start_server(answer, "127.0.0.1", 0))
        return build_proxy(servers[-1].sockets[0].getsockname()[1]), heads

    yield start
    ended.set()
    for server in servers:
        server.close()
        await server.wait_closed()


async def follow(client, proxy, query=""):
    """Follow until the error; return the lines and the error's text."""
    lines = []
    try:
        async for line in client.follow(proxy, query):
            lines.append(line)  # noqa: PERF401 - those before the error count
    except NodeUnreachableError as error:
        return lines, str(error)
    raise AssertionError("the tap ended without an error")


async def test_lines_are_yielded_as_they_come(build_client, start_proxy):
    proxy, heads = await start_proxy(HEAD, b'{"a"', b": 1}\n\n{}\nrest")
    lines, text = await follow(build_client(), proxy, "path=%2Fa%2Bb")
    assert (lines, text) == ([b'{"a": 1}', b"", b"{}"], "the proxy ended the tap")
    assert heads[0].startswith(b"GET /tap?path=%2Fa%2Bb HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ((b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",), "the proxy answered 404"),
        (
            (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n",),
            "the proxy answered 302",
        ),
        ((b"SSH-2.0\r\n",), "the proxy's answer is incomplete or not HTTP"),
        ((HEAD, b"x" * 40_000), "the proxy sent a line of over 32768 bytes"),
    ],
)
async def test_what_is_no_tap_is_an_error(build_client, start_proxy, parts, text):
    proxy, _ = await start_proxy(*parts)
    assert await follow(build_client(), proxy) == ([], text)


async def test_a_proxy_that_is_silent_or_gone_is_an_error(build_client, start_proxy, unused_tcp_port):
    proxy, _ = await start_proxy(HEAD, b"\n", is_silent=True)
    assert await follow(build_client(silence_s=0.2), proxy) == ([b""], "the proxy did not answer in time")
    gone = build_proxy(unused_tcp_port)
    assert await follow(build_client(), gone) == ([], "the proxy cannot be reached")
    nowhere = build_proxy(None)
    assert await follow(build_client(), nowhere) == ([], "the proxy did not report its admin port")


@pytest.mark.parametrize(
    ("open_files", "limit"), [(None, CONNECTIONS_LIMIT), (1024, 128), (4, 1), (10**6, CONNECTIONS_LIMIT)]
)
def test_connections_use_a_part_of_the_descriptors(open_files, limit):
    assert choose_stream_limit(open_files) == limit
