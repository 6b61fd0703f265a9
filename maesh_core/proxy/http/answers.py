"""All responses that the mesh itself creates: their texts, and the conversion of errors into responses.

Each response has a short plain text that gives the reason, which is also the value of `X-Maesh-Reason`. A middleware's
response may have its own body. The reasons for refusing malformed messages are defined where messages are parsed, in
messages/; the reason of a closed service comes from the controller (controller/configuration/http.py).
"""

from typing import Final

from maesh_core.errors import ExchangeError
from maesh_core.model.traffic_record import UPSTREAM_LOST
from maesh_core.plugin_system.interfaces import Response
from maesh_core.proxy.http.messages.headers import render_field
from maesh_core.proxy.http.messages.syntax import REASONS

# --- routing

UNKNOWN_HOST: Final = Response(status=404, reason="no service of the mesh has this host")
NO_SERVER: Final = Response(status=503, reason="the service has no usable server")
AMBIGUOUS_PATH: Final = Response(status=403, reason="the path is ambiguous")
TOO_LARGE_FOR_RULES: Final = Response(status=431, reason="the request is too large for the patterns of its rules")
NO_RULE: Final = "no rule of a route matches the request"  # 404
CLOSED: Final = "the service is closed"
"""The default reason when the controller closes a service with a status only."""

# --- the client's message

BODY_TOO_LARGE: Final = "the request's body is too large"  # 413
BODY_TIMEOUT: Final = "the request's body did not arrive in time"  # 408
HEAD_TIMEOUT: Final = "the request's head did not arrive in time"  # 408
NOT_READ: Final = "the client did not read the response in time"

# --- the upstream

CONNECT_TIMEOUT: Final = "connecting to the upstream timed out"  # 504
NOT_CONNECTED: Final = "cannot connect to the upstream"  # 502
NO_STREAMS: Final = "the upstream accepts no request on a new connection"  # 502
RESPONSE_TIMEOUT: Final = "the upstream did not respond in time"  # 504
ATTEMPT_TIMEOUT: Final = "the upstream's response was not complete in time"  # 504
REQUEST_TIMEOUT: Final = "the request was not completed in time"  # 504
NOT_HTTP2: Final = "the upstream does not speak HTTP/2"  # 502
CLOSED_EARLY: Final = "the upstream closed the connection without a response"  # 502
CLOSED_LATE: Final = UPSTREAM_LOST  # gRPC only: UNAVAILABLE
SILENT: Final = "the upstream's connection is dead"  # 502
REFUSED: Final = "the upstream refused the request"  # 502
RESET: Final = "the upstream reset the request"  # 502
OTHER_PROTOCOL: Final = "the upstream switched to a protocol that the client did not offer"  # 502

UNREACHED: Final = frozenset({502, 503, 504})
"""The statuses of answers about a server; to a node that has passed a request on, its stream is reset instead."""

# --- middlewares

MIDDLEWARE_FAILED: Final = Response(status=500, reason="a middleware failed")
UNSENDABLE: Final = Response(status=500, reason="a middleware returned an invalid response")
WHOLE_TOO_LARGE: Final = Response(status=502, reason="the response's body is too large for a middleware")
MIDDLEWARE_TIMEOUT: Final = Response(status=504, reason="a middleware did not decide in time")
CLIENT_ENDED: Final = Response(status=503, reason="the client closed its side before another attempt")
CHANGED: Final = Response(status=403, reason="access denied: no rule allows the request as it would be sent")
REVOKED: Final = Response(status=403, reason="access is no longer allowed")


def build_answer(error: ExchangeError) -> Response:
    """Turn an error into the response that reports it."""
    return Response(status=error.status, reason=str(error))


def render_reason(response: Response) -> bytes:
    """Render the reason as the value of `X-Maesh-Reason`."""
    return response.reason.encode("ascii", "replace").replace(b"\r", b" ").replace(b"\n", b" ")


def show_reason(response: Response) -> str:
    """Return the reason for counters and records, which are sent as UTF-8: surrogates are replaced."""
    reason = response.reason
    return reason if reason.isascii() else reason.encode("utf-8", "replace").decode()


def measure_body(response: Response, *, is_head_request: bool) -> int:
    """Return the size of the body that `render_answer` sends."""
    if is_head_request or response.status in (204, 304):
        return 0
    return len(response.reason) + 1 if response.body is None else len(response.body)


def render_answer(response: Response, *, connection: bytes, is_head_request: bool) -> bytes:
    """Render a response of the mesh for HTTP/1; `connection` is a rendered Connection field or empty.

    Raises ValueError, TypeError or AttributeError if a middleware's response is invalid.
    """
    if not 200 <= response.status <= 599:
        raise ValueError(f"not a final status: {response.status}")
    reason = render_reason(response)
    body = reason + b"\n" if response.body is None else response.body
    has_no_body = response.status < 200 or response.status in (204, 304)
    lines = [b"HTTP/1.1 %d %b\r\n" % (response.status, REASONS.get(response.status, b""))]
    if response.body is None and not has_no_body:
        lines.append(b"Content-Type: text/plain; charset=utf-8\r\n")
    if not has_no_body:
        lines.append(b"Content-Length: %d\r\n" % len(body))
    if reason:
        lines.append(render_field(b"X-Maesh-Reason", reason))
    lines.extend(render_field(name, value) for name, value in response.headers)
    lines.append(connection)
    lines.append(b"\r\n")
    if not is_head_request and not has_no_body:
        lines.append(body)
    return b"".join(lines)
