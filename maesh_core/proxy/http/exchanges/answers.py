"""Answers that the mesh itself gives, and the one place where an error becomes one.

A short plain text that says why, which is also the value of `X-Maesh-Reason`; or the response of a middleware.
"""

from maesh_core.errors import ExchangeError
from maesh_core.plugin_system.interfaces import Response
from maesh_core.proxy.http.messages.headers import render_field
from maesh_core.proxy.http.messages.syntax import REASONS


def build_answer(error: ExchangeError) -> Response:
    """Turn an error into the response that tells of it."""
    return Response(status=error.status, reason=str(error))


def render_answer(response: Response, *, connection: bytes, is_head_request: bool) -> bytes:
    """Render a response of the mesh; `connection` is a rendered Connection field or empty.

    Raises ValueError or TypeError where a middleware gave what may not be sent.
    """
    if not 200 <= response.status <= 599:
        raise ValueError(f"not the status of a final response: {response.status}")
    reason = response.reason.encode("ascii", "replace").replace(b"\r", b" ").replace(b"\n", b" ")
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
