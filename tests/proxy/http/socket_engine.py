"""Runs the HTTP engine over real sockets and uvloop, between clients and servers of a test."""

import asyncio
import contextlib
import functools
import socket

import uvloop

from maesh_core.model.configuration import HttpRouter, Section, Server, Service
from maesh_core.proxy.http.handler import HttpHandler
from maesh_core.proxy.network.clock import Clock
from maesh_core.settings import CarryingSettings

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
MEGABYTES_8 = 8 * 2**20
MEGABYTES_32 = 32 * 2**20  # more than the buffers of all sockets on the way can hold


def on_uvloop(test):
    """Run a test in a uvloop of its own."""

    @functools.wraps(test)
    def run():
        uvloop.run(asyncio.wait_for(test(), 100))

    return run


async def until(is_so):
    """Let things happen until it is so."""
    while not is_so():  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def carry(serve, settings=None, scheme="http", middlewares=()):
    """Run a proxy before a server whose connections `serve(reader, writer)` handles; return the proxy's address."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    handler = HttpHandler(settings or CarryingSettings(), Clock(asyncio.get_running_loop()))
    servers = (Server(address="127.0.0.1", port=server.sockets[0].getsockname()[1]),)
    services = {"a": Service(servers=servers, scheme=scheme)}
    instances = {f"m{index}": middleware for index, middleware in enumerate(middlewares)}
    routers = {"a": HttpRouter(entrypoint=1, hosts=("a",), service="a", middlewares=tuple(instances))}
    section = Section(routers=routers, services=services)
    handler.apply_table(handler.compile_table(section, middlewares=instances, changed=None))
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    address = listening.getsockname()
    listener = await handler.open_listener(listening, 1)
    try:
        yield handler, address
    finally:
        listener.close()
        handler.abort()
        handler.environment.clock.close()
        server.close()
        await server.wait_closed()
        await until(lambda: not (handler.environment.clients or handler.environment.upstreams))


BLOCK = b"x" * 65536
