"""Words and character rules of HTTP/1.1 for requests and responses (RFC 9110, RFC 9112).

Contains constants, compiled patterns and pure functions on bytes. It makes no decisions about exchanges.
"""

import re
from collections.abc import Container
from http import HTTPStatus
from typing import Final

from maesh_core.values.field_rules import HOP_BY_HOP, is_forwarded_name, is_shadowing_name

HEAD_END: Final = b"\r\n\r\n"
SMALL_HEAD_BYTES: Final = 256
"""Heads up to this size need no check of size and number of fields: the limits cannot be set this low."""

match_empty_lines: Final = re.compile(rb"(?:\r\n)*").match
"""Matches the empty lines before a request line, which are ignored (RFC 9112 section 2.2)."""

has_bare_line_end: Final = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)").search
"""Finds a line feed without carriage return, or the reverse. Such lines are refused, never repaired (RFC 9112
section 2.2)."""

is_length: Final = re.compile(rb"[0-9]{1,18}").fullmatch
"""Matches a Content-Length: digits only, at most 63 bits (RFC 9112 section 6.3)."""

is_authority: Final = re.compile(
    rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*(?::[0-9]{0,5})?|\[[0-9A-Fa-f:.]+\](?::[0-9]{0,5})?"
).fullmatch
"""Matches uri-host [":" port] of Host or an absolute target (RFC 9110 section 7.2, RFC 3986 section 3.2.2)."""

is_path_and_query: Final = re.compile(rb"/[!\"$-~]*").fullmatch
"""Matches a target in origin-form: visible characters except `#`, which is not part of a target (RFC 9112 section
3.2.1)."""


class _ForbiddenTrailers:
    """The lower-case names of fields that are not allowed as trailers."""

    _NAMES = HOP_BY_HOP | {b"content-length", b"host", b"trailer", b"content-encoding", b"content-type", b"expect"}

    def __contains__(self, name: object) -> bool:
        return isinstance(name, bytes) and (
            name in self._NAMES or is_forwarded_name(name) is not None or is_shadowing_name(name)
        )


FORBIDDEN_TRAILERS: Container[bytes] = _ForbiddenTrailers()
"""Fields that are not allowed as trailers, since they change how a message is framed or routed, or who seems to
have sent it (RFC 9110 section 6.5.1).

Names that shadow such a field are included, since some servers merge trailers into the header fields."""

IDEMPOTENT: Final = frozenset(
    (
        b"GET HEAD OPTIONS TRACE PUT DELETE QUERY ACL BASELINE-CONTROL BIND CHECKIN CHECKOUT COPY LABEL LINK MERGE"
        b" MKACTIVITY MKCALENDAR MKCOL MKREDIRECTREF MKWORKSPACE MOVE ORDERPATCH PROPFIND PROPPATCH REBIND REPORT"
        b" SEARCH UNBIND UNCHECKOUT UNLINK UNLOCK UPDATE UPDATEREDIRECTREF VERSION-CONTROL"
    ).split()
)
"""Methods that may be repeated: RFC 9110 section 9.2.2, and the column "Idempotent" in IANA's HTTP Method Registry."""

_NOT_IDEMPOTENT: Final = frozenset({b"POST", b"PATCH", b"LOCK"})
_IN_USE: Final = frozenset(b"M-SEARCH NOTIFY PURGE SOURCE SUBSCRIBE UNSUBSCRIBE".split())
"""Methods that are not registered but widely used: those of UPnP, of caches, and of Icecast."""

METHODS: Final = IDEMPOTENT | _NOT_IDEMPOTENT | _IN_USE
"""Methods that are always accepted: all registered ones except REFUSED_METHODS, and _IN_USE."""

REFUSED_METHODS: Final = frozenset({b"CONNECT", b"PRI", b"*"})
"""Methods that are always answered with 501, whatever the settings are. The mesh is no forward proxy, so it refuses
CONNECT; the others are registered only so that nobody uses them (RFC 9113 section 3.4, RFC 9110 section 18.2)."""

REASONS: Final = {status.value: status.phrase.encode() for status in HTTPStatus}


def parse_list(value: bytes) -> list[bytes]:
    """Split a comma-separated list into its lower-case members, without empty ones (RFC 9110 section 5.6.1)."""
    return [member for part in value.lower().split(b",") if (member := part.strip(b" \t"))]


def parse_host(authority: bytes) -> bytes:
    """Return the host of a checked authority: lower case, without port and final dot."""
    host = authority.lower()
    if host.startswith(b"["):
        return host[: host.index(b"]") + 1]
    host = host.partition(b":")[0]
    return host.removesuffix(b".")


def find_declared_length(framing: bytes) -> int:
    """Return the length that rendered framing fields declare; -1 if they declare none."""
    start = len(b"Content-Length: ")
    return int(framing[start : framing.index(b"\r", start)]) if framing.startswith(b"Content-Length: ") else -1


def count_fields(head: bytes) -> int:
    """Return the number of fields of a head that ends with its empty line."""
    return head.count(b"\r\n") - 2


def parse_port(authority: bytes) -> bytes:
    """Return the port of a checked authority; empty if it has none."""
    _, bracket, rest = authority.partition(b"]")
    return (rest if bracket else authority).partition(b":")[2]
