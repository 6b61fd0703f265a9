"""A server on a real socket, and clients that send it bytes."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import msgspec

from maesh_core.plain_http.messages import Request, Response
from maesh_core.plain_http.server import HttpServer, ServerLimits

HOST = b"Host: node\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
LAST = b"GET / HTTP/1.0\r\n\r\n"
CUT = (ConnectionError, asyncio.IncompleteReadError)
OK = Response(status=200, fields=((b"A", b"b"),), body=b"page")


def refuse(status: int, reason: str) -> Response:
    return Response(status=status, body=reason.encode())


@asynccontextmanager
async def serving(
    respond: Callable[[Request], object] = lambda request: OK, *, cancels_at_end: bool = False, **limits: float
) -> AsyncIterator[HttpServer]:
    chosen = msgspec.structs.replace(ServerLimits(), **limits)
    server = HttpServer(respond, refuse, chosen, cancels_at_end=cancels_at_end)  # type: ignore[arg-type]
    await server.listen(socket.create_server(("127.0.0.1", 0)))
    try:
        yield server
    finally:
        await server.close()
        await asyncio.sleep(0)
    assert (server.places.all, server.places.idle, server.places.stalled) == (set(), {}, {})
    assert asyncio.all_tasks() == {asyncio.current_task()}


@asynccontextmanager
async def connecting(server: HttpServer) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def exchange(server: HttpServer, sent: bytes) -> bytes:
    """Send, and read to the connection's end."""
    async with connecting(server) as (reader, writer):
        writer.write(sent)
        return await reader.read()


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not is_so():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0)
