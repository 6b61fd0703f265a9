"""What the mesh knows of gRPC: which requests are calls, their time-outs, and how statuses of gRPC and HTTP correspond.

Takes field values and parsed heads; returns numbers and header lists. Does nothing with connections. Sources are the
gRPC project's documents PROTOCOL-HTTP2.md, statuscodes.md and http-grpc-status-mapping.md, and the comments in
google/rpc/code.proto, which name the HTTP status of each code.
"""

import re
from typing import Final

from maesh_core.plugin_system.interfaces import Response
from maesh_core.proxy.http.answers import render_reason
from maesh_core.proxy.http.http2.fields import Field, Fields
from maesh_core.proxy.http.http2.frames import (
    CANCEL,
    ENHANCE_YOUR_CALM,
    REFUSED_STREAM,
)
from maesh_core.proxy.http.messages.headers import render_field
from maesh_core.proxy.http.messages.response_head import ResponseHead

OK: Final = 0
CANCELLED: Final = 1
UNKNOWN: Final = 2
DEADLINE_EXCEEDED: Final = 4
PERMISSION_DENIED: Final = 7
RESOURCE_EXHAUSTED: Final = 8
UNIMPLEMENTED: Final = 12
INTERNAL: Final = 13
UNAVAILABLE: Final = 14
UNAUTHENTICATED: Final = 16
NOT_KNOWN_YET: Final = -1
"""The status of a call whose trailers have not arrived yet, and of an exchange that is not a call."""

_LAST_STATUS: Final = 16
_CLIENT_GONE: Final = 499

_STATUSES_OF_RESPONSES: Final = {
    400: INTERNAL,
    401: UNAUTHENTICATED,
    403: PERMISSION_DENIED,
    404: UNIMPLEMENTED,
    429: UNAVAILABLE,
    502: UNAVAILABLE,
    503: UNAVAILABLE,
    504: UNAVAILABLE,
}
"""What a client makes of a response without `grpc-status`; others are UNKNOWN (http-grpc-status-mapping.md)."""

_STATUSES_OF_ANSWERS: Final = {
    **_STATUSES_OF_RESPONSES,
    408: DEADLINE_EXCEEDED,
    413: RESOURCE_EXHAUSTED,
    429: RESOURCE_EXHAUSTED,
    431: RESOURCE_EXHAUSTED,
    499: CANCELLED,
    500: INTERNAL,
    501: UNIMPLEMENTED,
    504: DEADLINE_EXCEEDED,
}
"""What the mesh's own answers become. They differ where the mesh knows more than a client that reads a bare status: 429
is a limit (code.proto), 408 and 504 are time-outs, 413 and 431 are limits of size (statuscodes.md)."""

_HTTP_STATUSES: Final = (200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401)
"""The HTTP status of each code, by its number (code.proto)."""

_STATUSES_OF_RESETS: Final = {CANCEL: CANCELLED, REFUSED_STREAM: UNAVAILABLE, ENHANCE_YOUR_CALM: RESOURCE_EXHAUSTED}
"""What a client makes of RST_STREAM; other error codes are INTERNAL (PROTOCOL-HTTP2.md, "Errors")."""

CONTENT_TYPE: Final = b"application/grpc"
TIMEOUT_LIMIT_S: Final = 86400.0
"""Longer time-outs bound nothing: the proxy's own limits are shorter, and timers cannot count to 99,999,999 hours."""
_UNITS_S: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}

_match_content_type: Final = re.compile(rb"application/grpc(?:[+; \t].*)?", re.DOTALL).fullmatch
_match_timeout: Final = re.compile(rb"([0-9]{1,8})([HMSmun])").fullmatch
_find_status: Final = re.compile(rb"(?:^|\n)grpc-status:[ \t]*([0-9]{1,9})[ \t]*\r", re.IGNORECASE).search
_escape: Final = re.compile(rb"[^ -$&-~]|^ | $").sub


def is_call(fields: Fields) -> bool:
    """Whether a request's header list is that of a gRPC call. `application/grpc-web` is another protocol."""
    return any(name == b"content-type" and _match_content_type(value) is not None for name, value in fields)


def find_timeout(fields: Fields) -> float:
    """Return the seconds in `grpc-timeout`, 0 if there is none.

    A malformed or repeated value, or zero, is ignored, because the value is for the server, which refuses it as it
    likes (PROTOCOL-HTTP2.md asks for a positive number of at most 8 digits).
    """
    values = [value for name, value in fields if name == b"grpc-timeout"]
    match = _match_timeout(values[0]) if len(values) == 1 else None
    if match is None:
        return 0.0
    seconds = int(match[1]) * _UNITS_S[match[2]]
    return seconds if seconds <= TIMEOUT_LIMIT_S else 0.0


# --- statuses


def read_status(lines: bytes) -> int:
    """Return `grpc-status` from the text of a head or of trailers; UNKNOWN if it is missing or not in the protocol.

    Clients also treat unknown codes as UNKNOWN, and metrics must not get a label for each number that a server invents.
    """
    match = _find_status(lines)
    status = int(match[1]) if match is not None else UNKNOWN
    return status if status <= _LAST_STATUS else UNKNOWN


def read_head_status(response: ResponseHead) -> int:
    """Return the status that a response's head determines, or NOT_KNOWN_YET if it is in the trailers."""
    if response.left == 0 and _find_status(response.head) is not None:
        return read_status(response.head)
    if response.status != 200:
        return _STATUSES_OF_RESPONSES.get(response.status, UNKNOWN)
    return UNKNOWN if response.left == 0 else NOT_KNOWN_YET


def find_answer_status(response: Response) -> int:
    """Return the status that an answer of the mesh becomes, unless it has a `grpc-status` of its own."""
    for name, value in response.headers:
        if name.lower() == b"grpc-status":
            return read_status(b"grpc-status: %b\r" % value)
    if response.grpc_status is not None:
        return response.grpc_status
    return _STATUSES_OF_ANSWERS.get(response.status, UNKNOWN)


def find_ended_status(http_status: int) -> int:
    """Return the status of a call that ended without `grpc-status`; 499 means that the client has left."""
    if http_status == _CLIENT_GONE:
        return CANCELLED
    return _STATUSES_OF_RESPONSES.get(http_status, UNKNOWN)


def find_reset_status(code: int) -> int:
    """Return what a client makes of RST_STREAM with this error code."""
    return _STATUSES_OF_RESETS.get(code, INTERNAL)


def find_http_status(status: int) -> int:
    """Return the HTTP status of a gRPC status."""
    return _HTTP_STATUSES[status] if 0 <= status <= _LAST_STATUS else _HTTP_STATUSES[UNKNOWN]


# --- answers


def build_answer_fields(response: Response) -> Fields:
    """Build the header list of an answer of the mesh to a call. It has no body, and ends the stream ("trailers-only").

    The answer's header fields are kept, except Content-Type, and its body is left out. Raises ValueError, TypeError or
    AttributeError if a middleware's response is invalid.
    """
    if not 200 <= response.status <= 599:
        raise ValueError(f"not a final status: {response.status}")
    fields: list[Field] = [(b":status", b"200"), (b"content-type", CONTENT_TYPE)]
    own: set[bytes] = set()
    others: list[Field] = []
    for name, value in response.headers:
        render_field(name, value)  # raises if it is not valid
        name = name.lower()
        if name not in (b"content-type", b"te"):
            own.add(name)
            others.append((name, value.strip(b" \t")))
    if b"grpc-status" not in own:
        fields.append((b"grpc-status", b"%d" % find_answer_status(response)))
    if b"grpc-message" not in own:
        fields.append((b"grpc-message", encode_message(response.reason)))
    reason = render_reason(response)
    if reason:
        render_field(b"x-maesh-reason", reason)
        fields.append((b"x-maesh-reason", reason.strip(b" \t")))
    return (*fields, *others)


def encode_message(text: str) -> bytes:
    """Percent-encode a `grpc-message`: the UTF-8 bytes outside 0x20 to 0x7E, "%", and spaces at both ends."""
    return _escape(lambda match: b"%%%02X" % match[0][0], text.encode(errors="replace"))


def render_trailers(status: int, reason: str) -> bytes:
    """Render the trailer lines with which the mesh ends a call whose response has begun."""
    return b"grpc-status: %d\r\ngrpc-message: %b\r\n" % (status, encode_message(reason))
