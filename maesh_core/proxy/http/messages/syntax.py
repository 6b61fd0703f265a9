"""Words and character rules of HTTP/1.1 that both directions share (RFC 9110, RFC 9112).

Constants, compiled patterns and pure functions on bytes. Decides nothing about any exchange.
"""

import re
from collections.abc import Container
from http import HTTPStatus
from typing import Final

from maesh_core.values.field_rules import HOP_BY_HOP, is_forwarded_name, is_shadowing_name

HEAD_END: Final = b"\r\n\r\n"
SMALL_HEAD_BYTES: Final = 256
"""No head up to this size is too large, or has too many fields: no limit can be set so low."""

match_empty_lines: Final = re.compile(rb"(?:\r\n)*").match
"""Before a request line they are passed over (RFC 9112 section 2.2)."""

has_bare_line_end: Final = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)").search
"""A line feed without its carriage return, or the reverse: never passed on, never repaired (RFC 9112 section 2.2)."""

is_length: Final = re.compile(rb"[0-9]{1,18}").fullmatch
"""Content-Length: digits alone, within 63 bits (RFC 9112 section 6.3)."""

is_authority: Final = re.compile(
    rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*(?::[0-9]{0,5})?|\[[0-9A-Fa-f:.]+\](?::[0-9]{0,5})?"
).fullmatch
"""uri-host [":" port] of a Host header or an absolute target (RFC 9110 section 7.2, RFC 3986 section 3.2.2)."""

is_path_and_query: Final = re.compile(rb"/[!\"$-~]*").fullmatch
"""Origin-form: visible characters but `#`, which no target holds (RFC 9112 section 3.2.1)."""


class _NotInTrailers:
    """The lower-case names of fields that no trailer may be."""

    _NAMES = HOP_BY_HOP | {b"content-length", b"host", b"trailer", b"content-encoding", b"content-type", b"expect"}

    def __contains__(self, name: object) -> bool:
        return isinstance(name, bytes) and (
            name in self._NAMES or is_forwarded_name(name) is not None or is_shadowing_name(name)
        )


NOT_IN_TRAILERS: Container[bytes] = _NotInTrailers()
"""Fields that change how a message is read or routed, or who seems to have sent it: no trailer may (RFC 9110 6.5.1).

Some servers merge trailers into the header fields, so names that shadow such a field are among them."""

IDEMPOTENT: Final = frozenset(
    (
        b"GET HEAD OPTIONS TRACE PUT DELETE QUERY ACL BASELINE-CONTROL BIND CHECKIN CHECKOUT COPY LABEL LINK MERGE"
        b" MKACTIVITY MKCALENDAR MKCOL MKREDIRECTREF MKWORKSPACE MOVE ORDERPATCH PROPFIND PROPPATCH REBIND REPORT"
        b" SEARCH UNBIND UNCHECKOUT UNLINK UNLOCK UPDATE UPDATEREDIRECTREF VERSION-CONTROL"
    ).split()
)
"""Methods that may be repeated: RFC 9110 section 9.2.2, and the column of that name in IANA's HTTP Method Registry."""

_NOT_IDEMPOTENT: Final = frozenset({b"POST", b"PATCH", b"LOCK"})
_IN_USE: Final = frozenset(b"M-SEARCH NOTIFY PURGE SOURCE SUBSCRIBE UNSUBSCRIBE".split())
"""Not registered, but in wide use: UPnP's, those of caches, and Icecast's."""

METHODS: Final = IDEMPOTENT | _NOT_IDEMPOTENT | _IN_USE
"""Methods that are always carried: all that are registered but for NEVER_CARRIED, and _IN_USE."""

NEVER_CARRIED: Final = frozenset({b"CONNECT", b"PRI", b"*"})
"""501, whatever is set: the mesh is no forward proxy, and the others are registered so that nobody uses them (RFC 9113
section 3.4, RFC 9110 section 18.2)."""

REASONS: Final = {status.value: status.phrase.encode() for status in HTTPStatus}


def parse_list(value: bytes) -> list[bytes]:
    """Split a comma list into its lower-case members, empty ones left out (RFC 9110 section 5.6.1)."""
    return [member for part in value.lower().split(b",") if (member := part.strip(b" \t"))]


def parse_host(authority: bytes) -> bytes:
    """Reduce a checked authority to the name that routes: lower case, without port and final dot."""
    host = authority.lower()
    if host.startswith(b"["):
        return host[: host.index(b"]") + 1]
    host = host.partition(b":")[0]
    return host.removesuffix(b".")


def count_fields(head: bytes) -> int:
    """Count the fields of a head that ends with its empty line."""
    return head.count(b"\r\n") - 2


def parse_port(authority: bytes) -> bytes:
    """Read the port of a checked authority; empty when it has none."""
    _, bracket, rest = authority.partition(b"]")
    return (rest if bracket else authority).partition(b":")[2]
