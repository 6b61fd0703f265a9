"""The server of the controller's API on a bound socket, with every limit named.

Takes a handler of requests; refuses what is no request itself. Names no software and no version to clients.
"""

import errno
import os
import socket
from collections.abc import Awaitable, Callable, Mapping

from maesh_core.controller.api.clients import CONNECTION_LIMIT
from maesh_core.errors import StartupError
from maesh_core.plain_http.messages import Request, RequestLimits, Response
from maesh_core.plain_http.server import HttpServer, ServerLimits

HEAD_LIMIT_BYTES = 8190
"""A node name and a revision come to less than 1 kB."""
FIELDS_LIMIT = 64
KEEP_ALIVE_S = 75.0
"""An idle connection, or one whose head is not complete, is closed after this. Above the longest poll."""
STOP_S = 2.0
"""Requests under way may take this long to end when the server stops."""
BACKLOG = 1024

Handler = Callable[[Request], Awaitable[Response]]


def to_response(
    status: int,
    *,
    body: bytes = b"",
    content_type: str = "",
    headers: Mapping[str, str] | None = None,
    is_last: bool = False,
) -> Response:
    """Make an answer that does not name our software; `is_last` ends the connection after it."""
    fields = {"Server": "maesh", **({"Content-Type": content_type} if content_type else {}), **(headers or {})}
    encoded = [(name.encode("ascii"), value.encode("ascii")) for name, value in fields.items()]
    return Response(status=status, fields=encoded, body=body, is_last=is_last)


def build_text(status: int, text: str, headers: Mapping[str, str] | None = None, *, is_last: bool = False) -> Response:
    """Make a short answer for a person."""
    every = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **(headers or {})}
    content_type = "text/plain; charset=utf-8"
    return to_response(status, body=text.encode(), content_type=content_type, headers=every, is_last=is_last)


def _refuse(status: int, reason: str) -> Response:
    """Answer what could not be read or handled."""
    del reason
    if status >= 500:
        return build_text(status, "error\n", is_last=True)
    return build_text(400, "not a request that this server understands\n")


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
) -> HttpServer:
    """Serve on a listening socket, which is the server's from now on, until its `close(grace_s=STOP_S)`.

    A client that goes away cancels its request's handler, so that nothing is held for it. At `connection_limit` the
    longest idle connection is closed for a new one, or the new one if none is idle.
    """
    limits = ServerLimits(
        request_s=KEEP_ALIVE_S,
        clients=connection_limit,
        requests=RequestLimits(head_bytes=HEAD_LIMIT_BYTES, fields=FIELDS_LIMIT),
    )
    server = HttpServer(handler, _refuse, limits, cancels_at_end=True)
    await server.listen(sock)
    return server
