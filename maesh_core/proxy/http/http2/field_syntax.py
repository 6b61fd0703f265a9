"""Rules of HTTP/2 for header lists, which requests, responses and trailers share (RFC 9113 section 8.2).

Takes header lists as they were received and checks them, or HTTP/1.1 field lines and converts them. Nothing is
repaired. A value that HTTP/1.1 refuses is refused here, since the fields are rendered as HTTP/1.1 text.
"""

import re
from collections.abc import Iterable
from typing import Final

from maesh_core.errors import MalformedMessageError
from maesh_core.proxy.http.http2.fields import Field, Fields
from maesh_core.proxy.http.messages.syntax import is_length
from maesh_core.values.field_rules import is_field_value

CONNECTION_SPECIFIC: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)
"""Fields that HTTP/2 forbids (RFC 9113 section 8.2.2)."""
_NOT_FORWARDED: Final = CONNECTION_SPECIFIC | {b"te"}
"""TE is only sent as `te: trailers`, which the caller adds."""

_is_lower_token: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+").fullmatch


def split_pseudo_fields(fields: Fields, known: frozenset[bytes]) -> tuple[dict[bytes, bytes], list[Field]]:
    """Return the pseudo-header fields by name, and the other fields, which are checked. Raises MalformedMessageError.

    `known` has the names of the pseudo-header fields that may occur. Their values are not checked.
    """
    pseudo: dict[bytes, bytes] = {}
    regular: list[Field] = []
    for name, value in fields:
        if not name.startswith(b":"):
            _check_field(name, value)
            regular.append((name, value))
        elif regular or name not in known or name in pseudo:
            raise MalformedMessageError("unknown, repeated or misplaced pseudo-header field")
        else:
            pseudo[name] = value
    return pseudo, regular


def _check_field(name: bytes, value: bytes) -> None:
    if not _is_lower_token(name):
        raise MalformedMessageError("malformed field name")
    if not is_field_value(value) or value != value.strip(b" \t"):
        raise MalformedMessageError("malformed field value")
    if name in CONNECTION_SPECIFIC or (name == b"te" and value.lower() != b"trailers"):
        raise MalformedMessageError("field that HTTP/2 forbids")


def read_length(regular: list[Field]) -> int:
    """Return the declared Content-Length, -1 if there is none. Raises MalformedMessageError."""
    lengths = [value for name, value in regular if name == b"content-length"]
    if not lengths:
        return -1
    if len(lengths) != 1 or not is_length(lengths[0]):
        raise MalformedMessageError("malformed or repeated Content-Length")
    return int(lengths[0])


def render_line(name: bytes, value: bytes) -> bytes:
    """Render a checked field as an HTTP/1.1 field line."""
    return b"%b: %b\r\n" % (name, value)


def build_fields(lines: Iterable[bytes]) -> list[Field]:
    """Build fields from checked HTTP/1.1 field lines without their CRLF; empty lines are ignored.

    Fields that HTTP/2 forbids are left out, names are converted to lower case, and whitespace around values is removed
    (RFC 9113 section 8.2.1).
    """
    fields: list[Field] = []
    for line in lines:
        name, colon, value = line.partition(b":")
        name = name.lower()
        if colon and name not in _NOT_FORWARDED:
            fields.append((name, value.strip(b" \t")))
    return fields
