"""Parses the head of a response: bytes to status, headers and framing, or an error.

One pattern parses an ordinary head (ordinary.py). For other heads, llhttp checks the syntax, one head per feed. This
module determines where the body ends, which also depends on the request.
"""

import re
from functools import lru_cache
from typing import ClassVar, Final, final

import httptools

from maesh_core.errors import UpstreamProtocolError
from maesh_core.proxy.http.messages.head import Head
from maesh_core.proxy.http.messages.headers import Headers, split_fields
from maesh_core.proxy.http.messages.ordinary import CLOSE, cut_connection, parse_ordinary_response
from maesh_core.proxy.http.messages.request_head import CHUNKED
from maesh_core.proxy.http.messages.syntax import find_declared_length, is_length, parse_list
from maesh_core.values.field_rules import HOP_BY_HOP

UNTIL_CLOSE: Final = -2
"""A number of remaining bytes: the body ends when the upstream closes the connection."""

CACHED_VALUES: Final = 256
"""Status lines, and values of Connection, whose meaning is cached."""
CACHED_VALUE_BYTES: Final = 128
"""Longer ones are parsed each time, because they would fill the memory."""

_SPECIAL: Final = HOP_BY_HOP | {b"content-length"}
_find_special: Final = re.compile(
    rb"\r\n(connection|content-length|keep-alive|proxy-(?:authenticate|authorization|connection)|te|transfer-encoding"
    rb"|upgrade):[ \t]*([^\r]*)"
).findall
"""Matches the fields of _SPECIAL in a lower-case head that llhttp has checked."""
_CHUNKED_FIELD: Final = b"Transfer-Encoding: chunked\r\n"
_CONNECTION_OPTIONS: Final = frozenset({b"close", b"keep-alive"})
"""Connection options that are not names of fields."""
_NO_OPTIONS: Final[frozenset[bytes]] = frozenset()
_match_status_line: Final = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])( [\t\x20-\x7e\x80-\xff]*)?").fullmatch


_FIELDS: Final = (
    "head",
    "status",
    "status_line",
    "outgoing",
    "left",
    "framing",
    "is_plain",
    "is_keep_alive",
    "dropped",
    "upgrade",
    "never_indexed",
)


@final
class ResponseHead(Head):
    """A parsed response head.

    `head` is its bytes; `outgoing` is the part to forward, without the empty line and the fields about the connection.
    `is_plain` means that the head can be forwarded unchanged if the client's connection stays open. `left` is the
    number of body bytes, CHUNKED, UNTIL_CLOSE or STREAMED, and `framing` the field that declares it to a client of
    HTTP/1.1. `dropped` names the fields that are not forwarded, `upgrade` the protocol that a 101 switches to.
    `never_indexed` names the fields that HTTP/2 must not compress on any hop (RFC 7541 section 7.1.3).
    """

    __slots__ = _FIELDS[1:]  # the base has `head`

    fields: ClassVar[tuple[str, ...]] = _FIELDS

    def __init__(
        self,
        head: bytes,
        status: int,
        status_line: bytes,
        outgoing: bytes,
        left: int,
        framing: bytes,
        is_plain: bool = True,  # noqa: FBT001, FBT002
        is_keep_alive: bool = True,  # noqa: FBT001, FBT002
        dropped: frozenset[bytes] = _SPECIAL,
        upgrade: bytes = b"",
    ) -> None:
        super().__init__(head)
        self.status = status
        self.status_line = status_line
        self.outgoing = outgoing
        self.left = left
        self.framing = framing
        self.is_plain = is_plain
        self.is_keep_alive = is_keep_alive
        self.dropped = dropped
        self.upgrade = upgrade
        self.never_indexed: frozenset[bytes] = frozenset()

    @property
    def declared_length(self) -> int:
        """The Content-Length, -1 if there is none."""
        return self.left if self.left > 0 else find_declared_length(self.framing)

    def build_headers(self) -> Headers:
        """Return the fields to forward; the caller may change the result."""
        return Headers(self.head, self.dropped, self)

    def reframe(self, left: int, framing: bytes) -> "ResponseHead":
        """Return the head to forward with a body of another size or form."""
        head = ResponseHead(
            head=self.head,
            status=self.status,
            status_line=self.status_line,
            outgoing=b"".join((self.status_line, *split_fields(self.head, without=self.dropped), framing)),
            left=left,
            framing=framing,
            is_plain=False,
            is_keep_alive=self.is_keep_alive,
            dropped=self.dropped,
            upgrade=self.upgrade,
        )
        head.never_indexed = self.never_indexed
        return head


def parse_response_head(head: bytes, *, is_head_request: bool) -> ResponseHead:
    """Parse a head, which ends with its only empty line. Raises UpstreamProtocolError."""
    found = parse_ordinary_response(head)
    if found is None:
        return _parse_in_full(head, is_head_request=is_head_request)
    status, has_length = int(found.second), found.length_start >= 0
    if has_length is found.is_chunked or status == 204:
        return _parse_in_full(head, is_head_request=is_head_request)
    if has_length:
        length = head[found.length_start : found.length_end]
        left, framing = int(length), b"Content-Length: %b\r\n" % length
    else:
        left, framing = CHUNKED, _CHUNKED_FIELD
    if is_head_request or status == 304:
        left = 0
    is_keep_alive = found.connection_start < 0 or not head.endswith(CLOSE, 0, found.connection_end)
    outgoing = cut_connection(head, found)
    return ResponseHead(head, status, found.first, outgoing, left, framing, is_keep_alive, is_keep_alive)


def _parse_in_full(head: bytes, *, is_head_request: bool) -> ResponseHead:
    """Parse any head in full. Raises UpstreamProtocolError."""
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
    dropped = _SPECIAL if options <= _CONNECTION_OPTIONS else _SPECIAL | options - _CONNECTION_OPTIONS
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
        outgoing=b"".join((status_line, *split_fields(head, without=dropped), framing)),
    )


def _read_upgrade(head: bytes) -> bytes:
    return b", ".join(Headers(head).get_all(b"upgrade"))


class _SyntaxCheckOnly:
    """Ignores all callbacks of llhttp; only its exceptions matter."""


def _check_syntax(head: bytes) -> None:
    try:
        httptools.HttpResponseParser(_SyntaxCheckOnly()).feed_data(head)
    except httptools.HttpParserUpgrade:
        pass  # a 101; the exchange checks whether the client offered it
    except httptools.HttpParserError as error:
        raise UpstreamProtocolError("the upstream sent a malformed response head") from error


def _read_framing(lengths: list[bytes], codings: list[bytes], minor: int) -> tuple[int, bytes]:
    """Return the body's size and the field that declares it (RFC 9112 section 6.3)."""
    if not lengths and not codings:
        return UNTIL_CLOSE, b""
    if not codings and len(lengths) == 1 and is_length(lengths[0]):
        return int(lengths[0]), b"Content-Length: " + lengths[0] + b"\r\n"
    if codings == [b"chunked"] and not lengths and minor == 1:
        return CHUNKED, _CHUNKED_FIELD
    raise UpstreamProtocolError("the upstream sent a response with ambiguous framing")


def _parse_options(value: bytes) -> frozenset[bytes]:
    return _cache_options(value) if len(value) <= CACHED_VALUE_BYTES else frozenset(parse_list(value))


@lru_cache(maxsize=CACHED_VALUES)
def _cache_options(value: bytes) -> frozenset[bytes]:
    return frozenset(parse_list(value))


def _parse_status_line(line: bytes) -> tuple[int, int, bytes]:
    """Return status, minor version, and the line to forward. Cached, since there are few different status lines."""
    return _cache_status_line(line) if len(line) <= CACHED_VALUE_BYTES else _read_status_line(line)


def _read_status_line(line: bytes) -> tuple[int, int, bytes]:
    match = _match_status_line(line)
    if match is None:
        raise UpstreamProtocolError("the upstream sent a malformed status line")
    return int(match[2]), int(match[1]), b"HTTP/1.1 " + match[2] + (match[3] or b" ") + b"\r\n"


_cache_status_line: Final = lru_cache(maxsize=CACHED_VALUES)(_read_status_line)
