"""Reads the head of a request: bytes to a value, or a refusal.

llhttp checks the syntax, one head to a feed; what it lets pass and RFC 9112 or the mesh does not is checked here.
Framing that could be read in two ways is refused, never repaired.
"""

import re
from functools import lru_cache
from typing import NoReturn

import httptools
import msgspec

from maesh_core.errors import ClientProtocolError
from maesh_core.proxy.protocol.http.headers import Headers, parse_headers
from maesh_core.proxy.protocol.http.syntax import (
    HOP_BY_HOP,
    is_authority,
    is_length,
    is_path_and_query,
    is_token,
    parse_host,
    parse_list,
)

CHUNKED = -1
"""As a number of bytes left: a chunked body of which the last chunk has not come."""

KEPT_HEADS = 1024
KEPT_LIMIT_BYTES = 1024
"""Reading a head that was read before costs 0.1 of 2 us; heads with a body to come are among them too."""

FORWARDED = (
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-port",
    b"x-forwarded-proto",
    b"x-real-ip",
    b"x-forwarded-server",
)

SPECIAL = HOP_BY_HOP | {b"host", b"content-length", b"expect", *FORWARDED}
"""Fields that the mesh reads, and writes itself where they go on."""
_NAMED_BY_CONNECTION = {b"close", b"keep-alive", b"upgrade", b"te"}
_NEVER_DROPPED = {b"host", b"content-length"}

_match_request_line = re.compile(rb"([^ \r\n]*) ([^ \r\n]*) HTTP/([0-9])\.([0-9])\r\n").match
_match_absolute = re.compile(rb"(?i:http)://([^/?#]*)(.*)", re.DOTALL).fullmatch


class RequestHead(msgspec.Struct, frozen=True, kw_only=True):
    """A request's head, read.

    `head` is its bytes. `is_plain` means that they may go upstream as they came: all in them is end-to-end, or what
    the mesh would say too. `body` is the number of body bytes to come or CHUNKED, and `framing` the fields that say
    so. `dropped` names fields that stop here, `forwarded` holds what the client sent of FORWARDED.
    """

    head: bytes
    method: bytes
    target: bytes
    authority: bytes
    host: bytes
    is_plain: bool = False
    is_http_1_0: bool = False
    is_keep_alive: bool = True
    body: int = 0
    framing: bytes = b""
    dropped: frozenset[bytes] = SPECIAL
    forwarded: dict[bytes, bytes] | None = None

    def build_headers(self) -> Headers:
        """List the fields that go on; the list is the caller's to change."""
        return parse_headers(self.head, without=self.dropped)


def parse_request_head(head: bytes) -> RequestHead:
    """Read a head, which ends with its one empty line. Raises ClientProtocolError.

    Clients repeat themselves: of short heads the last ones are kept, by their exact bytes.
    """
    return _parse_kept(head) if len(head) <= KEPT_LIMIT_BYTES else _parse(head)


class _FieldCollector:
    """Takes from llhttp the target and the fields that mean something to the mesh."""

    __slots__ = ("special", "target")

    def __init__(self) -> None:
        self.special: list[tuple[bytes, bytes]] = []
        self.target = b""

    def on_url(self, url: bytes) -> None:
        self.target = url

    def on_header(self, name: bytes, value: bytes) -> None:
        lower = name.lower()
        if lower in SPECIAL:
            self.special.append((lower, value))


def _parse(head: bytes) -> RequestHead:
    collector = _FieldCollector()
    parser = httptools.HttpRequestParser(collector)
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        pass  # which is not taken: the request goes on without it
    except httptools.HttpParserError as error:
        _refuse_unparsed(head, error)
    method, target = parser.get_method(), collector.target
    if method == b"CONNECT":
        raise ClientProtocolError("CONNECT is not carried here", 501)
    is_http_1_0 = _check_request_line(head, method, target)
    fields: dict[bytes, list[bytes]] = {}
    for name, value in collector.special:
        fields.setdefault(name, []).append(value)
    authority = _read_authority(fields.pop(b"host", []), is_http_1_0=is_http_1_0)
    if not is_path_and_query(target):
        authority, target = _read_other_target(method, target, authority)
        fields[b"host"] = []
    host = parse_host(authority)
    if not is_http_1_0 and (not fields or fields == {b"connection": [b"keep-alive"]}):
        return RequestHead(head=head, method=method, target=target, authority=authority, host=host, is_plain=True)
    fields.pop(b"host", None)
    is_keep_alive, dropped = _read_connection(fields, is_http_1_0=is_http_1_0)
    body, framing = _read_framing(fields, is_http_1_0=is_http_1_0)
    return RequestHead(
        head=head,
        method=method,
        target=target,
        authority=authority,
        host=host,
        is_http_1_0=is_http_1_0,
        is_keep_alive=is_keep_alive,
        body=body,
        framing=framing + _read_expect(fields, is_http_1_0=is_http_1_0),
        dropped=SPECIAL | dropped,
        forwarded={name: b", ".join(fields[name]) for name in FORWARDED if name in fields} or None,
    )


_parse_kept = lru_cache(maxsize=KEPT_HEADS)(_parse)


def _check_request_line(head: bytes, method: bytes, target: bytes) -> bool:
    """Refuse what llhttp let pass before and behind the target; returns whether it is HTTP/1.0."""
    length = len(method) + len(target)
    version = head[length + 1 : length + 12]
    if version == b" HTTP/1.1\r\n":
        return False
    if version == b" HTTP/1.0\r\n":
        return True
    match = _match_request_line(head)
    if match and (match[3], match[4]) not in ((b"1", b"0"), (b"1", b"1")):
        raise ClientProtocolError("only HTTP/1.1 and HTTP/1.0 are spoken here", 505)
    raise ClientProtocolError("malformed request line")


def _read_authority(values: list[bytes], *, is_http_1_0: bool) -> bytes:
    if len(values) > 1:
        raise ClientProtocolError("more than one Host")
    if not values and not is_http_1_0:
        raise ClientProtocolError("no Host")
    authority = values[0] if values else b""
    if not is_authority(authority):
        raise ClientProtocolError("malformed Host")
    return authority


def _read_other_target(method: bytes, target: bytes, authority: bytes) -> tuple[bytes, bytes]:
    """Take absolute-form and asterisk-form; the target's authority beats Host (RFC 9112 section 3.2.2)."""
    if target == b"*" and method == b"OPTIONS":
        return authority, target
    match = _match_absolute(target)
    if match is None or not match[1] or not is_authority(match[1]):
        raise ClientProtocolError("malformed request target")
    if not match[2] and method == b"OPTIONS":
        return match[1], b"*"
    path = match[2] if match[2].startswith(b"/") else b"/" + match[2]
    if not is_path_and_query(path):
        raise ClientProtocolError("malformed request target")
    return match[1], path


def _read_connection(fields: dict[bytes, list[bytes]], *, is_http_1_0: bool) -> tuple[bool, frozenset[bytes]]:
    """Obey Connection; returns whether to stay connected, and the fields it names (RFC 9110 section 7.6.1)."""
    options = {option for value in fields.get(b"connection", ()) for option in parse_list(value)}
    is_keep_alive = b"close" not in options and (not is_http_1_0 or b"keep-alive" in options)
    dropped = frozenset(options - _NAMED_BY_CONNECTION - _NEVER_DROPPED)
    for name in dropped:
        fields.pop(name, None)
    return is_keep_alive, dropped


def _read_framing(fields: dict[bytes, list[bytes]], *, is_http_1_0: bool) -> tuple[int, bytes]:
    """Decide where the body ends (RFC 9112 section 6.3); both ways of saying it at once are an attack."""
    codings, lengths = fields.get(b"transfer-encoding"), fields.get(b"content-length")
    if codings is not None:
        if lengths is not None:
            raise ClientProtocolError("both Content-Length and Transfer-Encoding")
        if is_http_1_0:
            raise ClientProtocolError("Transfer-Encoding in HTTP/1.0")
        if len(codings) != 1 or codings[0].lower() != b"chunked":
            _refuse_coding(codings)
        return CHUNKED, b"Transfer-Encoding: chunked\r\n"
    if lengths is None:
        return 0, b""
    if len(lengths) != 1 or not is_length(lengths[0]):
        raise ClientProtocolError("malformed or repeated Content-Length")
    return int(lengths[0]), b"Content-Length: " + lengths[0] + b"\r\n"


def _refuse_coding(codings: list[bytes]) -> NoReturn:
    names = [name for value in codings for name in parse_list(value)]
    if not names or b"chunked" in names[:-1] or b"identity" in names or not all(map(is_token, names)):
        raise ClientProtocolError("malformed Transfer-Encoding")
    raise ClientProtocolError("transfer coding not known here", 501)


def _read_expect(fields: dict[bytes, list[bytes]], *, is_http_1_0: bool) -> bytes:
    values = fields.get(b"expect")
    if values is None:
        return b""
    if any(value.lower() != b"100-continue" for value in values):
        raise ClientProtocolError("only 100-continue can be expected", 417)
    return b"" if is_http_1_0 else b"Expect: 100-continue\r\n"


def _refuse_unparsed(head: bytes, error: Exception) -> NoReturn:
    """Find the status for a head that llhttp refused."""
    match = _match_request_line(head)
    if match:
        if (match[3], match[4]) not in ((b"1", b"0"), (b"1", b"1")):
            raise ClientProtocolError("only HTTP/1.1 and HTTP/1.0 are spoken here", 505) from error
        if isinstance(error, httptools.HttpParserInvalidMethodError) and is_token(match[1]):
            raise ClientProtocolError("method not known here", 501) from error
        _refuse_framing(head)
    raise ClientProtocolError("malformed request head") from error


_find_codings = re.compile(rb"\r\ntransfer-encoding:[ \t]*([^\r\n]*?)[ \t]*(?=\r\n)", re.IGNORECASE).findall


def _refuse_framing(head: bytes) -> None:
    """Raise 501 for a coding that is merely unknown; llhttp has one error for that and for malformed ones."""
    codings = _find_codings(head)
    if codings and not re.search(rb"\r\ncontent-length[ \t]*:", head, re.IGNORECASE):
        _refuse_coding(codings)
