"""Reads the head of an upstream's response: bytes to status, headers and framing, or a refusal.

An ordinary head is read by one pattern (ordinary.py). Of any other llhttp checks the syntax, one head to a feed; where
the body ends is decided here, knowing the request.
"""

import re
from functools import lru_cache
from typing import ClassVar, Final, final

import httptools

from maesh_core.errors import UpstreamProtocolError
from maesh_core.proxy.http.messages.head import Head
from maesh_core.proxy.http.messages.headers import Headers, split_fields
from maesh_core.proxy.http.messages.ordinary import CLOSE, cut_connection, match_response
from maesh_core.proxy.http.messages.request_head import CHUNKED
from maesh_core.proxy.http.messages.syntax import is_length, parse_list
from maesh_core.values.field_rules import HOP_BY_HOP

UNTIL_CLOSE: Final = -2
"""As a number of bytes left: the body ends where the upstream closes the connection."""

_SPECIAL: Final = HOP_BY_HOP | {b"content-length"}
_find_special: Final = re.compile(
    rb"\r\n(connection|content-length|keep-alive|proxy-(?:authenticate|authorization|connection)|te|transfer-encoding"
    rb"|upgrade):[ \t]*([^\r]*)"
).findall
"""The fields of _SPECIAL in a head that llhttp has checked, in lower case."""
_CHUNKED_FIELD: Final = b"Transfer-Encoding: chunked\r\n"
_WORDS: Final = frozenset({b"close", b"keep-alive"})
"""What Connection says of itself, and names no field by."""
_NO_OPTIONS: Final[frozenset[bytes]] = frozenset()
_match_status_line: Final = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])( [\t\x20-\x7e\x80-\xff]*)?").fullmatch


_FIELDS: Final = (
    "head",
    "status",
    "status_line",
    "passing",
    "left",
    "framing",
    "is_plain",
    "is_keep_alive",
    "dropped",
    "upgrade",
)


@final
class ResponseHead(Head):
    """A response's head, read.

    `head` is its bytes, and `passing` what of it goes on, but for the empty line and what concerns the connection.
    `is_plain` means that it may go to a client as it came, if that connection stays open. `left` is
    the number of body bytes to come, CHUNKED or UNTIL_CLOSE, and `framing` the field that says so. `dropped` names
    fields that stop here, `upgrade` what a 101 changes to.
    """

    __slots__ = _FIELDS

    fields: ClassVar[tuple[str, ...]] = _FIELDS

    def __init__(
        self,
        head: bytes,
        status: int,
        status_line: bytes,
        passing: bytes,
        left: int,
        framing: bytes,
        is_plain: bool = True,  # noqa: FBT001, FBT002
        is_keep_alive: bool = True,  # noqa: FBT001, FBT002
        dropped: frozenset[bytes] = _SPECIAL,
        upgrade: bytes = b"",
    ) -> None:
        self.head = head
        self.status = status
        self.status_line = status_line
        self.passing = passing
        self.left = left
        self.framing = framing
        self.is_plain = is_plain
        self.is_keep_alive = is_keep_alive
        self.dropped = dropped
        self.upgrade = upgrade

    def build_headers(self) -> Headers:
        """List the fields that go on; the list is the caller's to change."""
        return Headers(self.head, self.dropped)


def parse_response_head(head: bytes, *, is_head_request: bool) -> ResponseHead:
    """Read a head, which ends with its one empty line. Raises UpstreamProtocolError."""
    match = match_response(head)
    if match is None:
        return _parse_closely(head, is_head_request=is_head_request)
    status_line, digits, length, chunked, connection = match.groups()
    status = int(digits)
    if (length is None) is (chunked is None) or status == 204:
        return _parse_closely(head, is_head_request=is_head_request)
    if length is None:
        left, framing = CHUNKED, _CHUNKED_FIELD
    else:
        left, framing = int(length), b"Content-Length: %b\r\n" % length
    if is_head_request or status == 304:
        left = 0
    is_keep_alive = connection is None or not connection.endswith(CLOSE)
    passing = cut_connection(match)
    return ResponseHead(head, status, status_line, passing, left, framing, is_keep_alive, is_keep_alive)


def _parse_closely(head: bytes, *, is_head_request: bool) -> ResponseHead:
    """Read a head of which nothing is known. Raises UpstreamProtocolError."""
    status, minor, status_line = _parse_status_line(head[: head.find(b"\r\n")])
    _check_syntax(head)
    lengths: list[bytes] = []
    codings: list[bytes] = []
    options = _NO_OPTIONS
    for name, value in _find_special(head.lower()):
        if name == b"content-length":
            lengths.append(value.rstrip(b" \t"))
        elif name == b"transfer-encoding":
            codings.append(value.rstrip(b" \t"))
        elif name == b"connection":
            options = options | _parse_options(value) if options else _parse_options(value)
    left, framing = _read_framing(lengths, codings, minor)
    is_keep_alive = b"close" not in options and (minor == 1 or b"keep-alive" in options)
    if status < 200 or status == 204:  # RFC 9110 section 8.6: no length
        framing = b""
    if is_head_request or status < 200 or status in (204, 304):
        left = 0
    elif left == UNTIL_CLOSE:
        is_keep_alive = False
    dropped = _SPECIAL if options <= _WORDS else _SPECIAL | options - _WORDS
    return ResponseHead(
        head=head,
        status=status,
        status_line=status_line,
        is_plain=False,
        is_keep_alive=is_keep_alive,
        left=left,
        framing=framing,
        dropped=dropped,
        upgrade=_read_upgrade(head) if status == 101 and b"upgrade" in options else b"",
        passing=b"".join((status_line, *split_fields(head, without=dropped), framing)),
    )


def _read_upgrade(head: bytes) -> bytes:
    return b", ".join(Headers(head).get_all(b"upgrade"))


class _Unheard:
    """Takes nothing from llhttp: that it raises or not is all that is asked of it."""


def _check_syntax(head: bytes) -> None:
    try:
        httptools.HttpResponseParser(_Unheard()).feed_data(head)
    except httptools.HttpParserUpgrade:
        pass  # a 101; whether it was offered a change knows the exchange
    except httptools.HttpParserError as error:
        raise UpstreamProtocolError("the upstream sent a malformed response head") from error


def _read_framing(lengths: list[bytes], codings: list[bytes], minor: int) -> tuple[int, bytes]:
    """Find what frames the body, and the field that says so (RFC 9112 section 6.3)."""
    if not lengths and not codings:
        return UNTIL_CLOSE, b""
    if not codings and len(lengths) == 1 and is_length(lengths[0]):
        return int(lengths[0]), b"Content-Length: " + lengths[0] + b"\r\n"
    if codings == [b"chunked"] and not lengths and minor == 1:
        return CHUNKED, _CHUNKED_FIELD
    raise UpstreamProtocolError("the upstream framed its response ambiguously")


@lru_cache(maxsize=256)
def _parse_options(value: bytes) -> frozenset[bytes]:
    return frozenset(parse_list(value))


@lru_cache(maxsize=256)
def _parse_status_line(line: bytes) -> tuple[int, int, bytes]:
    """Read a status line: status, minor version, and the line as it goes on. Few different ones ever come."""
    match = _match_status_line(line)
    if match is None:
        raise UpstreamProtocolError("the upstream sent a malformed status line")
    return int(match[2]), int(match[1]), b"HTTP/1.1 " + match[2] + (match[3] or b" ") + b"\r\n"
