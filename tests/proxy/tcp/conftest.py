"""A TCP handler with real sockets: its entrypoint, its servers, and what clients do."""

import asyncio
import contextlib
import socket

import pytest

from maesh_core.model.configuration import Section, Server, Service, StreamRouter
from maesh_core.proxy.tcp.handler import TcpHandler
from maesh_core.settings import ProxySettings
from maesh_testing import FakeNode

ENTRYPOINT = 10000


def build_section(*ports, weights=None, entrypoint=ENTRYPOINT):
    servers = tuple(
        Server(address="127.0.0.1", port=port, weight=weight)
        for port, weight in zip(ports, weights or [1] * len(ports), strict=True)
    )
    return Section(
        routers={"a/b:1": StreamRouter(entrypoint=entrypoint, service="a/b:1")},
        services={"a/b:1": Service(servers=servers)},
    )


def apply(handler, section, changed=None):
    handler.apply_table(handler.compile_table(section, middlewares={}, changed=changed))


def read_counter(handler, name):
    (family,) = [each for each in handler.collect_metrics() if each.name == f"maesh_tcp_{name}"]
    return sum(value for _, value in family.samples)


async def wait_drained(handler):
    while not handler.is_drained():  # noqa: ASYNC110 - transports close in later rounds of the loop
        await asyncio.sleep(0)


async def wait_until(condition):
    while not condition():  # noqa: ASYNC110 - sockets take their time
        await asyncio.sleep(0.001)


@pytest.fixture
async def node():
    """Give a node, whose clock stands still until it is moved."""
    node = FakeNode(settings=ProxySettings(connect_timeout=5))
    yield node
    node.close()


@pytest.fixture
async def handler(node):
    handler = TcpHandler(node)
    yield handler
    handler.abort()
    await wait_drained(handler)


@pytest.fixture
async def address(handler):
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    address = sock.getsockname()
    listener = await handler.open_listener(sock, ENTRYPOINT)
    yield address
    listener.close()


@pytest.fixture
async def start_server():
    """Start a server from a coroutine function on reader and writer; returns its port.

    What still serves at the end is cancelled: it may learn late of a connection's end, or serve without reading.
    """
    servers, serving = [], {}

    async def start(serve):
        async def serve_and_close(reader, writer):
            serving[asyncio.current_task()] = writer
            try:
                await serve(reader, writer)
            finally:
                writer.close()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()
                del serving[asyncio.current_task()]

        servers.append(await asyncio.start_server(serve_and_close, "127.0.0.1", 0))
        return servers[-1].sockets[0].getsockname()[1]

    yield start
    for server in servers:
        server.close()
    for _ in range(4):  # rounds in which what was just accepted begins to be served
        await asyncio.sleep(0)
    for writer in serving.values():
        writer.transport.abort()
    tasks = [*serving]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def ask(address, request):
    reader, writer = await asyncio.open_connection(*address)
    writer.write(request)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def read_until_closed(address):
    try:
        reader, writer = await asyncio.open_connection(*address)
    except ConnectionResetError:  # so soon that connecting itself hears of it
        return b""
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def echo_whole(reader, writer):
    writer.write(b"got " + await reader.read())
    await writer.drain()
