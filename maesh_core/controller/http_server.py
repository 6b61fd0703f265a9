"""An HTTP server on a bound socket, for the controller's API: aiohttp's low-level server with every limit named.

Takes a handler of requests; answers what is not HTTP itself. Names no software and no version to clients.
"""

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from maesh_core.controller.api_clients import CONNECTION_LIMIT, ApiClients
from maesh_core.errors import StartupError

LINE_LIMIT_BYTES = 8190
"""The request line; a node name and a revision come to less than 1 kB."""
FIELD_LIMIT_BYTES = 8190
HEADERS_LIMIT = 64
READ_BUFFER_BYTES = 2**16
KEEP_ALIVE_S = 75.0
"""An idle connection, or one whose head is not complete, is closed after this. Above the longest poll."""
LINGER_S = 1.0
"""A request's body is unwanted and is read no longer than this."""
STOP_S = 2.0
"""Requests under way may take this long to end when the server stops."""
BACKLOG = 1024

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_log = logging.getLogger(__name__)


def to_response(
    status: int, *, body: bytes | None = None, content_type: str | None = None, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Make an answer that does not name our software."""
    return web.Response(
        status=status, body=body, content_type=content_type, headers={"Server": "maesh", **(headers or {})}
    )


def build_text(status: int, text: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """Make a short answer for a person."""
    every = {"Server": "maesh", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **(headers or {})}
    return web.Response(status=status, text=text, headers=every)


class _Connection(web.RequestHandler):
    """aiohttp's connection, with our words for what is not a request."""

    __slots__ = ("_clients",)

    def __init__(self, clients: ApiClients, manager: "_Server", **options: Any) -> None:
        super().__init__(manager, **options)
        self._clients = clients

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way."""
        return self._current_request is None and not self._messages

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start, if there is room for one more client."""
        super().connection_made(transport)
        if not self._clients.admit(self):
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """End."""
        self._clients.forget(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        self._clients.note_bytes(self)
        super().data_received(data)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what could not be parsed or handled."""
        if status >= 500:
            _log.error("a request to the API failed", exc_info=exc)
        else:
            _log.debug("not a request: %s", exc)
        response = build_text(status, "not a request that this server understands\n" if status < 500 else "error\n")
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log at debug what aiohttp finds: the rest is a body that is none, and anybody may send many of these."""
        _log.debug(*args, **kw)


class _Server(web.Server):
    """aiohttp's server, of our connections."""

    def __init__(self, handler: Handler, clients: ApiClients, **options: Any) -> None:
        super().__init__(handler, **options)
        self._clients = clients

    def __call__(self) -> web.RequestHandler:
        return _Connection(self._clients, self, loop=self._loop, **self._kwargs)


def open_socket(host: str, port: int, *, flag: str) -> socket.socket:
    """Bind and listen; an empty host is every address, IPv6 included. Raises StartupError that names the flag."""
    try:
        return _bind(host, port)
    except (OSError, UnicodeError, OverflowError) as error:
        where = f"{f'[{host}]' if ':' in host else host}:{port}" if host else f"port {port} of all addresses"
        raise StartupError(f"cannot listen on {where} ({flag}): {_describe_reason(error)}") from error


def _describe_reason(error: Exception) -> str:
    """Say why in the system's words: `create_server` adds a sentence of its own, with the address once more."""
    if not isinstance(error, OSError):
        return str(error)
    if error.errno is None or isinstance(error, socket.gaierror):
        return error.strerror or str(error)
    return os.strerror(error.errno)


def _bind(host: str, port: int) -> socket.socket:
    if not host:
        try:
            if socket.has_dualstack_ipv6():
                return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG)
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise
        return socket.create_server(("", port), backlog=BACKLOG)
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return socket.create_server(address[:2], family=family, backlog=BACKLOG)


async def start_server(
    handler: Handler, sock: socket.socket, *, connection_limit: int = CONNECTION_LIMIT
) -> web.ServerRunner:
    """Serve on a listening socket, which is the server's from now on; `cleanup()` stops it within STOP_S or so.

    A client that goes away cancels its request's handler, so that nothing is held for it. At `connection_limit` the
    longest idle connection is closed for a new one, or the new one if none is idle.
    """
    server = _Server(
        handler,
        ApiClients(connection_limit),
        handler_cancellation=True,
        access_log=None,
        auto_decompress=False,
        keepalive_timeout=KEEP_ALIVE_S,
        lingering_time=LINGER_S,
        max_line_size=LINE_LIMIT_BYTES,
        max_field_size=FIELD_LIMIT_BYTES,
        max_headers=HEADERS_LIMIT,
        read_bufsize=READ_BUFFER_BYTES,
    )
    runner = web.ServerRunner(server, shutdown_timeout=STOP_S)
    await runner.setup()
    await web.SockSite(runner, sock).start()
    return runner
