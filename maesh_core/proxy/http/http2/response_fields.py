"""Translates responses and trailers between HTTP/2 header lists and the HTTP/1.1 text of a ResponseHead.

A received header list is checked (RFC 9113 section 8), rendered as an HTTP/1.1 head, and parsed like one that an
HTTP/1.1 server sent. Trailers are translated in both directions of both requests and responses.
"""

import re
from functools import lru_cache
from typing import Final

from maesh_core.errors import MalformedMessageError, UpstreamProtocolError
from maesh_core.proxy.http.http2.field_syntax import build_fields, read_length, render_line, split_pseudo_fields
from maesh_core.proxy.http.http2.fields import Field, Fields
from maesh_core.proxy.http.messages.chunked import TRAILER_LIMIT_BYTES
from maesh_core.proxy.http.messages.request_head import STREAMED
from maesh_core.proxy.http.messages.response_head import ResponseHead, parse_response_head
from maesh_core.proxy.http.messages.syntax import FORBIDDEN_TRAILERS, REASONS

CACHED_RESPONSES: Final = 256
"""Response heads whose header list is cached."""
CACHED_RESPONSE_BYTES: Final = 512
"""Longer heads are translated each time, because they would fill the memory."""
_PSEUDO: Final = frozenset({b":status"})
_NO_PSEUDO: Final[frozenset[bytes]] = frozenset()
_is_status: Final = re.compile(rb"[1-9][0-9][0-9]").fullmatch


def read_response(fields: Fields, *, is_head_request: bool, has_body: bool) -> ResponseHead:
    """Parse a response's header list; `has_body` means that its HEADERS frame does not end the stream.

    The response to a HEAD request, 204 and 304 have no body even if `has_body` is true. Raises UpstreamProtocolError.
    """
    try:
        text, has_body = _render_head(fields, is_head_request=is_head_request, has_body=has_body)
    except MalformedMessageError as error:
        raise UpstreamProtocolError("the upstream sent a malformed response head") from error
    head = parse_response_head(text, is_head_request=is_head_request)
    head.left = STREAMED if has_body else 0
    head.is_plain = False
    return head


def _render_head(fields: Fields, *, is_head_request: bool, has_body: bool) -> tuple[bytes, bool]:
    """Render a header list as the head of an HTTP/1.1 response. Return it, and whether a body can follow."""
    pseudo, regular = split_pseudo_fields(fields, _PSEUDO)
    status_text = pseudo.get(b":status", b"")
    if not _is_status(status_text) or status_text == b"101":  # RFC 9113 section 8.6: HTTP/2 has no 101
        raise MalformedMessageError("malformed or missing :status")
    status, length = int(status_text), read_length(regular)
    is_informational = status < 200
    if is_informational and not has_body:  # RFC 9113 section 8.1
        raise MalformedMessageError("informational response that ends its stream")
    is_bodiless = is_head_request or is_informational or status in (204, 304)
    if length > 0 and not has_body and not is_bodiless:
        raise MalformedMessageError("Content-Length without a body")
    lines = [b"HTTP/1.1 %d %b\r\n" % (status, REASONS.get(status, b""))]
    lines += [render_line(name, value) for name, value in regular]
    if length < 0 and not is_bodiless:
        lines.append(b"Transfer-Encoding: chunked\r\n" if has_body else b"Content-Length: 0\r\n")
    lines.append(b"\r\n")
    return b"".join(lines), has_body and not is_bodiless


def build_response_fields(text: bytes) -> Fields:
    """Build a response's header list from its HTTP/1.1 head as the mesh sends it, with or without empty line.

    Servers often repeat a head, so lists are cached.
    """
    return _build_cached(text) if len(text) <= CACHED_RESPONSE_BYTES else _build_response_fields(text)


def _build_response_fields(text: bytes) -> Fields:
    lines = text.split(b"\r\n")
    status: Field = (b":status", lines[0][9:12])
    return (status, *build_fields(lines[1:]))


_build_cached: Final = lru_cache(maxsize=CACHED_RESPONSES)(_build_response_fields)


def read_trailers(fields: Fields) -> bytes:
    """Render received trailers as HTTP/1.1 trailer lines. Raises MalformedMessageError.

    Fields that are not allowed as trailers are dropped (RFC 9110 section 6.5.1).
    """
    _, regular = split_pseudo_fields(fields, _NO_PSEUDO)
    lines = b"".join([render_line(name, value) for name, value in regular])
    if len(lines) > TRAILER_LIMIT_BYTES:
        raise MalformedMessageError("trailers too large")
    if not any(name in FORBIDDEN_TRAILERS for name, _ in regular):
        return lines
    return b"".join([render_line(name, value) for name, value in regular if name not in FORBIDDEN_TRAILERS])


def build_trailer_fields(lines: bytes) -> Fields:
    """Build the header list of trailers from checked HTTP/1.1 trailer lines."""
    return tuple(build_fields(lines.split(b"\r\n")))
