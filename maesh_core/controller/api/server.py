"""The HTTP server of the controller's API, with all its limits.

Takes a listening socket and a handler of requests; answers malformed requests itself. Its answers name no software and
no version.
"""

import errno
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

import msgspec

from maesh_core.controller.api.clients import CONNECTION_LIMIT
from maesh_core.errors import StartupError
from maesh_core.model.addresses import join_port
from maesh_core.plain_http.messages import BodyStream, Request, RequestLimits, Response
from maesh_core.plain_http.server import HttpServer, ServerLimits

HEAD_LIMIT_BYTES = 8190
"""A node name and a revision take less than 1 kB."""
FIELDS_LIMIT = 64
KEEP_ALIVE_S = 75.0
"""An idle connection, or one with an incomplete head, is closed after this time. Longer than the longest pull."""
STOP_S = 2.0
"""Running requests may take this long to end when the server stops."""
ADDRESS_CONNECTIONS = 1000
"""Connections from one address that have shown no certificate; on loopback there is no such limit."""
BACKLOG = 1024

COMMON_FIELDS: Mapping[str, str] = {
    "Server": "maesh",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
"""Fields of every response. A page of another site cannot include one, neither as what it is nor as a script."""

Handler = Callable[[Request], Awaitable[Response]]


def to_response(
    status: int,
    *,
    body: bytes = b"",
    content_type: str = "",
    headers: Mapping[str, str] | None = None,
    is_last: bool = False,
) -> Response:
    """Build a response that does not name the software; `is_last` closes the connection after it."""
    fields = {**COMMON_FIELDS, **({"Content-Type": content_type} if content_type else {}), **(headers or {})}
    encoded = [(name.encode("ascii"), value.encode("ascii")) for name, value in fields.items()]
    return Response(status=status, fields=encoded, body=body, is_last=is_last)


def to_stream(stream: BodyStream, *, content_type: str) -> Response:
    """Build a response whose body is a stream, which ends its connection; proxies on the way must not buffer it."""
    response = to_response(
        HTTPStatus.OK, content_type=content_type, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )
    return msgspec.structs.replace(response, stream=stream, is_last=True)


def build_text(status: int, text: str, headers: Mapping[str, str] | None = None, *, is_last: bool = False) -> Response:
    """Build a short text response for a person."""
    every = {"Cache-Control": "no-store", **(headers or {})}
    content_type = "text/plain; charset=utf-8"
    return to_response(status, body=text.encode(), content_type=content_type, headers=every, is_last=is_last)


def build_json(body: bytes, status: int = HTTPStatus.OK) -> Response:
    """Build a response with a document that is current only now."""
    return to_response(status, body=body, content_type="application/json", headers={"Cache-Control": "no-store"})


def _refuse(status: int, reason: str) -> Response:
    """Answer a request that could not be parsed or handled."""
    if status >= 500:
        return build_text(status, "error\n", is_last=True)
    if status in (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UPGRADE_REQUIRED):
        return build_text(status, f"{reason}\n", is_last=True)
    return build_text(400, "malformed request\n")


def open_socket(host: str, port: int, *, flag: str) -> socket.socket:
    """Bind and listen; an empty host means every address, IPv6 included. Raises StartupError, which names the flag."""
    try:
        return _bind(host, port)
    except (OSError, UnicodeError, OverflowError) as error:
        where = join_port(host, port) if host else f"port {port} of all addresses"
        raise StartupError(f"cannot listen on {where} ({flag}): {_describe_reason(error)}") from error


def _describe_reason(error: Exception) -> str:
    """Describe an OSError in the system's words, because `create_server` adds a sentence with the address."""
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
    handler: Handler,
    sock: socket.socket,
    *,
    connection_limit: int = CONNECTION_LIMIT,
    body_limits: Mapping[bytes, int] | None = None,
    protect: Callable[[HttpServer], None] = lambda server: None,
) -> HttpServer:
    """Serve on a listening socket, which the server owns from then on, until `close(grace_s=STOP_S)`.

    If a client leaves, the handler of its request is cancelled. At `connection_limit`, the longest-idle connection is
    closed for a new one; if none is idle, the new one is closed. `body_limits` are those of POST requests, by path.
    `protect` is called before the server listens.
    """
    limits = ServerLimits(
        request_s=KEEP_ALIVE_S,
        clients=connection_limit,
        address_clients=ADDRESS_CONNECTIONS,
        requests=RequestLimits(head_bytes=HEAD_LIMIT_BYTES, fields=FIELDS_LIMIT, body_bytes=body_limits or {}),
    )
    server = HttpServer(handler, _refuse, limits, cancels_at_end=True)
    protect(server)
    await server.listen(sock)
    return server
