"""Parses the head of a request: bytes to a RequestHead (request_head.py), or an error for the client.

One pattern parses an ordinary head (ordinary.py). For other heads, llhttp checks the syntax of the fields, one head per
feed. This module checks the request line, and what llhttp accepts but RFC 9112 or the mesh does not. Ambiguous framing
is refused, never repaired.
"""

import re
from functools import lru_cache
from typing import Final, NoReturn

import httptools

from maesh_core.errors import ClientProtocolError
from maesh_core.proxy.http.messages.account_field import strip_head
from maesh_core.proxy.http.messages.head_rules import DEFAULT_RULES, HeadRules, HeadRulesByClient
from maesh_core.proxy.http.messages.headers import split_fields
from maesh_core.proxy.http.messages.ordinary import CLOSE, cut_connection, parse_ordinary_request
from maesh_core.proxy.http.messages.request_head import (
    CACHED_HEAD_LIMIT_BYTES,
    CHUNKED,
    SPECIAL,
    RequestHead,
    render_start,
)
from maesh_core.proxy.http.messages.syntax import (
    METHODS,
    has_bare_line_end,
    is_authority,
    is_length,
    is_path_and_query,
    parse_host,
    parse_list,
)
from maesh_core.settings import CarryingSettings
from maesh_core.values.field_rules import FORWARDED, is_token

CACHED_HOSTS: Final = 1024
CACHED_HOST_BYTES: Final = 262
"""Longer authorities are normalised each time, because they would fill the memory: no host of a route is longer than
255 bytes, without its port and final dot."""

_NAMED_BY_CONNECTION: Final = {b"close", b"keep-alive", b"upgrade", b"te"}
_NEVER_DROPPED: Final = {b"host", b"content-length", b"transfer-encoding"}
"""Fields that are kept even if Connection names them: dropping them would hide where the request ends."""


_match_request_line: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([!-~]+) HTTP/([0-9]\.[0-9])").fullmatch
_find_special: Final = re.compile(
    rb"\r\n(connection|host|content[-_]length|expect|keep-alive|proxy-(?:authenticate|authorization|connection)|te"
    rb"|transfer[-_]encoding|upgrade|forwarded|x[-_](?:forwarded[-_][^:]*|real[-_]ip)):[ \t]*([^\r]*)",
    re.IGNORECASE,
).findall
"""Matches the fields of SPECIAL in a head that llhttp has checked, and those that some HeadRules drop."""
_is_protocol: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+(?:/[!#$%&'*+\-.^_`|~0-9A-Za-z]+)?").fullmatch
_match_absolute: Final = re.compile(rb"(?i:http)://([^/?#]*)(.*)", re.DOTALL).fullmatch


class HeadReader:
    """Parses the heads of all clients with the same `rules`, and caches the last head.

    Clients that open a connection per request repeat their head, and have no connection on which it could be cached.
    """

    __slots__ = ("_last", "rules")

    def __init__(self, rules: HeadRules) -> None:
        self.rules: Final = rules
        self._last: RequestHead | None = None

    def __repr__(self) -> str:
        return f"<HeadReader {self.rules!r}>"

    def read(self, head: bytes) -> RequestHead:
        """Parse a head, which ends with its only empty line. Raises ClientProtocolError."""
        last = self._last
        if last is None or last.head != head:
            last = parse_request_head(head, self.rules)
            self._last = last if len(head) <= CACHED_HEAD_LIMIT_BYTES else None
        return last


class StrippingReader(HeadReader):
    """A reader that removes the field with the client's account, which only the mesh sets."""

    __slots__ = ()

    def read(self, head: bytes) -> RequestHead:
        """Parse a head without the field. Raises ClientProtocolError."""
        return super().read(strip_head(head))


class HeadReaders:
    """The two readers of one handler: one for clients whose forwarded fields are kept, one for the others."""

    __slots__ = ("_by_trust", "_rules")

    def __init__(self, settings: CarryingSettings) -> None:
        self._rules = HeadRulesByClient(settings)
        self._by_trust: dict[bool, HeadReader] = {}

    def __repr__(self) -> str:
        return f"<HeadReaders {self._rules!r}>"

    def find(self, address: str) -> HeadReader:
        """Return the reader for a client's address, which is empty if it is unknown."""
        return self._get(self._rules.find(address))

    @property
    def trusting(self) -> HeadReader:
        """The reader for clients whose forwarded fields are kept."""
        return self._get(self._rules.trusting)

    def _get(self, rules: HeadRules) -> HeadReader:
        reader = self._by_trust.get(rules.keeps_forwarded)
        if reader is None:
            reader = StrippingReader(rules) if rules.drops_account else HeadReader(rules)
            self._by_trust[rules.keeps_forwarded] = reader
        return reader


def parse_request_head(head: bytes, rules: HeadRules = DEFAULT_RULES) -> RequestHead:
    """Parse a head, which ends with its only empty line, under these rules. Raises ClientProtocolError."""
    found = parse_ordinary_request(head)
    if found is None or found.authority_start < 0 or found.first not in METHODS:
        return _parse_in_full(head, rules)
    authority = head[found.authority_start : found.authority_end]
    host, outgoing = _parse_cached_host(authority), cut_connection(head, found)
    is_keep_alive = found.connection_start < 0 or not head.endswith(CLOSE, 0, found.connection_end)
    method, target = found.first, found.second
    if found.length_start < 0:
        parsed = RequestHead(head, method, target, authority, host, outgoing, is_keep_alive)
    else:
        length = head[found.length_start : found.length_end]
        framing = b"Content-Length: %b\r\n" % length
        parsed = RequestHead(head, method, target, authority, host, outgoing, is_keep_alive, int(length), framing)
    parsed.trace = found.trace
    return parsed


_cache_host: Final = lru_cache(maxsize=CACHED_HOSTS)(parse_host)


def _parse_cached_host(authority: bytes) -> bytes:
    return _cache_host(authority) if len(authority) <= CACHED_HOST_BYTES else parse_host(authority)


class _Fields:
    """The values that are read from a head's fields; they do not depend on the request line.

    `outgoing` holds the fields to forward, except Host. It is None if the whole head can be forwarded unchanged: it
    contains only end-to-end fields, and fields that the mesh would render in the same way.
    """

    __slots__ = (
        "authority",
        "body",
        "dropped",
        "forwarded",
        "framing",
        "host",
        "is_expecting",
        "is_keep_alive",
        "outgoing",
        "takes_trailers",
        "upgrade",
    )

    def __init__(
        self,
        authority: bytes,
        host: bytes,
        outgoing: bytes | None,
        *,
        is_keep_alive: bool = True,
        body: int = 0,
        framing: bytes = b"",
        dropped: frozenset[bytes] = SPECIAL,
        forwarded: dict[bytes, bytes] | None = None,
        upgrade: bytes = b"",
        is_expecting: bool = False,
        takes_trailers: bool = False,
    ) -> None:
        self.authority: Final = authority
        self.host: Final = host
        self.outgoing: Final = outgoing
        self.is_keep_alive: Final = is_keep_alive
        self.body: Final = body
        self.framing: Final = framing
        self.dropped: Final = dropped
        self.forwarded: Final = forwarded
        self.upgrade: Final = upgrade
        self.is_expecting: Final = is_expecting
        self.takes_trailers: Final = takes_trailers


def _parse_in_full(head: bytes, rules: HeadRules = DEFAULT_RULES) -> RequestHead:
    """Parse any head in full. Raises ClientProtocolError with the reason."""
    line, _, rest = head.partition(b"\r\n")
    method, target, is_http_1_0 = _parse_request_line(line, rules)
    fields = _parse_fields(rest, rules, is_http_1_0=is_http_1_0)
    authority, host = fields.authority, fields.host
    is_changed = not is_path_and_query(target)
    if is_changed:
        authority, target = _read_other_target(method, target, authority)
        host = parse_host(authority)
    if fields.outgoing is not None:
        outgoing = render_start(method, target, authority) + fields.outgoing
    elif is_changed:
        outgoing = render_start(method, target, authority) + b"".join(split_fields(head, without=SPECIAL))
    else:
        outgoing = head[:-2]
    return RequestHead(
        head=head,
        method=method,
        target=target,
        authority=authority,
        host=host,
        outgoing=outgoing,
        is_http_1_0=is_http_1_0,
        is_keep_alive=fields.is_keep_alive,
        body=fields.body,
        framing=fields.framing,
        dropped=fields.dropped,
        forwarded=fields.forwarded,
        upgrade=fields.upgrade,
        is_expecting=fields.is_expecting,
        takes_trailers=fields.takes_trailers,
    )


def _parse_request_line(line: bytes, rules: HeadRules) -> tuple[bytes, bytes, bool]:
    """Return the method, the target, and whether the version is HTTP/1.0."""
    match = _match_request_line(line)
    if match is None:
        raise ClientProtocolError("malformed request line")
    method, target, version = match.groups()
    if version != b"1.1" and version != b"1.0":
        raise ClientProtocolError("only HTTP/1.1 and HTTP/1.0 are supported", 505)
    if not rules.carries(method):
        raise ClientProtocolError("method not supported", 501)
    return method, target, version == b"1.0"


class _SyntaxCheckOnly:
    """Ignores all callbacks of llhttp; only its exceptions matter."""


def _parse_fields(rest: bytes, rules: HeadRules, *, is_http_1_0: bool) -> _Fields:
    """Parse the field lines and the empty line after them.

    llhttp checks them before they are searched: no bare CR or LF, no folded line, no space before a colon. A callback
    for each field would double the cost of a new head.
    """
    try:
        httptools.HttpRequestParser(_SyntaxCheckOnly()).feed_data(b"GET / HTTP/1.1\r\n" + rest)
    except httptools.HttpParserUpgrade:
        pass  # the upstream decides whether to switch protocols
    except httptools.HttpParserError as error:
        _refuse_coding_alone(rest)
        raise ClientProtocolError("malformed request head") from error
    fields: dict[bytes, list[bytes]] = {}
    for name, value in _find_special(b"\r\n" + rest):
        fields.setdefault(name.lower(), []).append(value.rstrip(b" \t"))
    authority = _read_authority(fields.pop(b"host", []), is_http_1_0=is_http_1_0)
    host = parse_host(authority)
    if not is_http_1_0 and not fields:
        return _Fields(authority, host, None)
    dropped = rules.find_dropped(fields)
    for name in dropped:
        del fields[name]
    is_keep_alive, named = _read_connection(fields, is_http_1_0=is_http_1_0)
    body, framing = _read_framing(fields, is_http_1_0=is_http_1_0)
    expectation = _read_expect(fields, is_http_1_0=is_http_1_0)
    framing += expectation
    upgrade = b"" if is_http_1_0 else _read_upgrade(fields)
    if upgrade:
        framing += b"Connection: upgrade\r\nUpgrade: %b\r\n" % upgrade
    dropped |= named | SPECIAL
    return _Fields(
        authority,
        host,
        b"".join((*split_fields(b"\r\n" + rest, without=dropped), framing)),
        is_keep_alive=is_keep_alive,
        body=body,
        framing=framing,
        dropped=dropped,
        forwarded={name: b", ".join(fields[name]) for name in FORWARDED if name in fields} or None,
        upgrade=upgrade,
        is_expecting=bool(body and expectation),
        takes_trailers=not is_http_1_0 and any(b"trailers" in parse_list(value) for value in fields.get(b"te", ())),
    )


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
    """Parse absolute-form and asterisk-form; the target's authority overrides Host (RFC 9112 section 3.2.2)."""
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
    """Apply Connection: return whether to keep the connection, and the fields it names (RFC 9110 section 7.6.1)."""
    options = {option for value in fields.get(b"connection", ()) for option in parse_list(value)}
    is_keep_alive = b"close" not in options and (not is_http_1_0 or b"keep-alive" in options)
    dropped = frozenset(options - _NAMED_BY_CONNECTION - _NEVER_DROPPED)
    for name in dropped:
        fields.pop(name, None)
    return is_keep_alive, dropped


def _read_upgrade(fields: dict[bytes, list[bytes]]) -> bytes:
    """Return the protocols that the client offers to switch to (RFC 9110 section 7.8).

    HTTP/2 is left out: the mesh could not read its requests, and the upgrade to it is obsolete (RFC 9113 section 3.1).
    """
    if b"upgrade" not in fields or not any(b"upgrade" in parse_list(value) for value in fields.get(b"connection", ())):
        return b""
    offered = [name.strip(b" \t") for value in fields[b"upgrade"] for name in value.split(b",")]
    return b", ".join(name for name in offered if _is_protocol(name) and not name.lower().startswith((b"h2", b"http")))


def _read_framing(fields: dict[bytes, list[bytes]], *, is_http_1_0: bool) -> tuple[int, bytes]:
    """Determine where the body ends (RFC 9112 section 6.3). Two declarations at once are refused as an attack."""
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
    """Raise the error for codings other than one plain `chunked`, the only supported value."""
    names = [name for value in codings for name in parse_list(value)]
    is_misplaced = b"chunked" in names[:-1] or names == [b"chunked"]
    if not names or is_misplaced or b"identity" in names or not all(map(is_token, names)):
        raise ClientProtocolError("malformed Transfer-Encoding")
    raise ClientProtocolError("transfer coding not supported", 501)


def _read_expect(fields: dict[bytes, list[bytes]], *, is_http_1_0: bool) -> bytes:
    values = fields.get(b"expect")
    if values is None:
        return b""
    if any(value.lower() != b"100-continue" for value in values):
        raise ClientProtocolError("only 100-continue can be expected", 417)
    return b"" if is_http_1_0 else b"Expect: 100-continue\r\n"


_find_codings: Final = re.compile(rb"(?:^|\r\n)transfer-encoding:([^\r\n]*)(?=\r\n)", re.IGNORECASE).findall
"""Two parts of this pattern must not match the same bytes: such a search would take a time that grows with the square
or the cube of the value's length."""
_has_length: Final = re.compile(rb"(?:^|\r\n)content-length[ \t]*:", re.IGNORECASE).search


def _refuse_coding_alone(rest: bytes) -> None:
    """Raise 501 if the coding is valid but unknown; llhttp reports the same error for unknown and malformed codings."""
    if has_bare_line_end(rest) or _has_length(rest):
        return
    codings = [value.strip(b" \t") for value in _find_codings(rest)]
    if codings:
        _refuse_coding(codings)
