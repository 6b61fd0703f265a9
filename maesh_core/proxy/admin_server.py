"""The server of the admin port: plain HTTP/1.1 for probes, scrapes and people, on asyncio.

Takes listening sockets and what answers a request (admin.py). It is not the HTTP engine: the parent forwards nothing,
and the engine would cost it 3 MB. Every size, wait and number of clients is bounded, for anybody may connect.
"""

import asyncio
import contextlib
import logging
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import httptools
import msgspec

from maesh_core.proxy.admin import AdminResponse
from maesh_core.proxy.sockets import BACKLOG

HEAD_LIMIT_BYTES = 16 * 1024
"""Probes and scrapes send a few hundred bytes."""
BODY_LIMIT_BYTES = 64 * 1024
"""No page reads a body; one that is longer ends the connection."""
REQUEST_LIMIT_S = 60.0
"""What a client may take for a request, idle time included. Prometheus scrapes every 15 to 60 s."""
SEND_LIMIT_S = 60.0
"""What a client may take to receive a response; that of 5,000 services is about 10 MB."""
LINGER_S = 1.0
"""How long input is read past after a refusal: closing with unread input resets the connection, response included."""
CLIENTS_LIMIT = 256
"""At the limit, the connection that has been idle for longest is closed."""

_READ_BYTES = 16 * 1024
_PHRASES = {
    200: b"OK",
    400: b"Bad Request",
    404: b"Not Found",
    405: b"Method Not Allowed",
    413: b"Content Too Large",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    503: b"Service Unavailable",
}

logger = logging.getLogger(__name__)


class AdminRequest(msgspec.Struct, frozen=True):
    """A request. `is_last`: its connection ends after it. `refusal` is set where it cannot be answered by a page."""

    method: bytes
    target: bytes
    is_last: bool
    refusal: AdminResponse | None = None


Respond = Callable[[AdminRequest], AdminResponse | Awaitable[AdminResponse]]


class RequestReader:
    """Turns what a client sends into requests, in order. The last one, if the bytes make no sense, is a refusal."""

    __slots__ = ("_has_head", "_hosts", "_parser", "_received_bytes", "_target", "requests")

    def __init__(self) -> None:
        self._parser: Any = httptools.HttpRequestParser(self)
        self.requests: deque[AdminRequest] = deque()
        self._start()

    def __repr__(self) -> str:
        return f"<RequestReader {len(self.requests)} requests>"

    def feed(self, data: bytes) -> None:
        """Read what came. After a request that is the last one, nothing may be fed."""
        self._received_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.requests.append(msgspec.structs.replace(self.requests.pop(), is_last=True))
        except httptools.HttpParserError:
            self._refuse(400, "not a request of HTTP/1.1")
        else:
            if not self._has_head and self._received_bytes > HEAD_LIMIT_BYTES:
                self._refuse(431, f"the head is over {HEAD_LIMIT_BYTES} bytes")
            elif self._received_bytes > HEAD_LIMIT_BYTES + BODY_LIMIT_BYTES:
                self._refuse(413, f"the body is over {BODY_LIMIT_BYTES} bytes")

    def release(self) -> None:
        """Release the parser: it and this object refer to each other."""
        self._parser = None

    def on_url(self, data: bytes) -> None:
        """See a part of the target."""
        self._target += data

    def on_header(self, name: bytes, value: bytes) -> None:
        """See a field of the head, or of trailers."""
        del value
        self._hosts += name.lower() == b"host" and not self._has_head

    def on_headers_complete(self) -> None:
        """See the end of a head."""
        self._has_head = True

    def on_message_complete(self) -> None:
        """See the end of a request. llhttp knows here, and only here, whether the connection goes on."""
        is_current = self._parser.get_http_version() == "1.1"
        if is_current and self._hosts != 1:  # RFC 9112 section 3.2
            self._refuse(400, "there must be one Host")
        else:
            is_last = not (is_current and self._parser.should_keep_alive())
            self.requests.append(AdminRequest(self._parser.get_method(), _cut_path(self._target), is_last))
        self._start()

    def _start(self) -> None:
        self._target = b""
        self._hosts = 0
        self._received_bytes = 0
        self._has_head = False

    def _refuse(self, status: int, reason: str) -> None:
        refusal = AdminResponse(status=status, reason=reason)
        self.requests.append(AdminRequest(b"", b"", is_last=True, refusal=refusal))


class AdminServer:
    """Serves the admin port, from `open` to `close`. Both belong to one event loop."""

    __slots__ = ("_clients", "_idle", "_respond", "_servers")

    def __init__(self, respond: Respond) -> None:
        self._respond = respond
        self._servers: list[asyncio.Server] = []
        self._clients: set[asyncio.Task[None]] = set()
        self._idle: dict[asyncio.Task[Any], None] = {}
        """Clients that are waited for, the longest first."""

    def __repr__(self) -> str:
        return f"<AdminServer {len(self._clients)} clients, {len(self._idle)} of them idle>"

    async def open(self, sockets: Sequence[socket.socket]) -> None:
        """Serve on listening sockets, which this now owns."""
        for sock in sockets:
            self._servers.append(
                await asyncio.start_server(self._accept, sock=sock, limit=_READ_BYTES, backlog=BACKLOG)
            )

    @property
    def port(self) -> int | None:
        """The port that is listened on; None where none is."""
        for server in self._servers:
            for sock in server.sockets:
                return int(sock.getsockname()[1])
        return None

    async def close(self) -> None:
        """Stop listening, and cut every connection."""
        for server in self._servers:
            server.close()
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= CLIENTS_LIMIT:
            longest = next(iter(self._idle), None)
            if longest is None:
                writer.transport.abort()
                return
            self._forget(longest)
            longest.cancel()
        client = asyncio.create_task(self._serve(reader, writer))
        self._clients.add(client)
        client.add_done_callback(self._forget)

    def _forget(self, client: "asyncio.Task[None]") -> None:
        self._clients.discard(client)
        self._idle.pop(client, None)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer a client's requests, one after the other, to the connection's end."""
        received = RequestReader()
        try:
            while (request := await self._receive(reader, received)) is not None:
                response = await self._answer(request)
                writer.write(render_response(response, is_head=request.method == b"HEAD", is_last=request.is_last))
                async with asyncio.timeout(SEND_LIMIT_S):
                    await writer.drain()
                if request.is_last:
                    await _end(reader, writer, is_lingering=request.refusal is not None)
                    return
        except OSError:  # the client is gone, or too slow: TimeoutError is an OSError
            return
        finally:
            received.release()
            writer.transport.abort()

    async def _receive(self, reader: asyncio.StreamReader, received: RequestReader) -> AdminRequest | None:
        """Receive the next request; None when the client sends no more."""
        client = asyncio.current_task()
        assert client is not None  # noqa: S101 - it is what runs this
        self._idle[client] = None
        try:
            async with asyncio.timeout(REQUEST_LIMIT_S):
                while not received.requests:
                    data = await reader.read(_READ_BYTES)
                    if not data:
                        return None
                    received.feed(data)
        finally:
            self._idle.pop(client, None)
        return received.requests.popleft()

    async def _answer(self, request: AdminRequest) -> AdminResponse:
        if request.refusal is not None:
            return request.refusal
        try:
            response = self._respond(request)
            return response if isinstance(response, AdminResponse) else await response
        except Exception:  # one request's edge
            logger.exception("the page %s failed", request.target.decode("ascii", "replace"))
            return AdminResponse(status=500, reason="the page failed; the log says why")


def render_response(response: AdminResponse, *, is_head: bool, is_last: bool) -> bytes:
    """Render a response; one to HEAD is without its body."""
    reason = response.reason.encode("ascii", "replace")
    body = reason + b"\n" if response.body is None else response.body
    lines = [
        b"HTTP/1.1 %d %b" % (response.status, _PHRASES[response.status]),
        b"Content-Type: %b" % response.content_type,
        b"Content-Length: %d" % len(body),
        b"X-Maesh-Reason: %b" % reason,
    ]
    if response.status == 405:
        lines.append(b"Allow: GET, HEAD")
    if is_last:
        lines.append(b"Connection: close")
    return b"\r\n".join([*lines, b"", b"" if is_head else body])


def _cut_path(target: bytes) -> bytes:
    """Cut a target in absolute form down to its path and query; every server accepts it (RFC 9112 section 3.2.2)."""
    scheme, mark, rest = target.partition(b"://")
    return b"/" + rest.partition(b"/")[2] if mark and scheme.isalpha() else target


async def _end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_lingering: bool) -> None:
    """End the connection once the client has taken what was written."""
    if is_lingering:
        with contextlib.suppress(OSError):
            async with asyncio.timeout(LINGER_S):
                writer.write_eof()
                while await reader.read(_READ_BYTES):
                    pass
    writer.close()
    async with asyncio.timeout(SEND_LIMIT_S):
        await writer.wait_closed()
