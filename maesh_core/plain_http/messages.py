"""Requests and responses of the small HTTP server, and what makes requests out of bytes.

Takes what a client sends, in any pieces; returns requests in order. What makes no sense or is too large becomes a
refusal. Bodies are only read of POST requests for the paths that the limits name. Any other request with a body is the
last of its connection, and the body is not read. Does no I/O.
"""

from collections import deque
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Protocol

import httptools
import msgspec

_PHRASES = {
    200: b"OK",
    304: b"Not Modified",
    400: b"Bad Request",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    413: b"Content Too Large",
    421: b"Misdirected Request",
    426: b"Upgrade Required",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
}
"""Those of the pages; without one, a status line ends in a space (RFC 9112 section 4)."""
_BODY_FIELDS = frozenset({b"content-length", b"transfer-encoding"})
_HEADS_ONLY = frozenset({204, 304})


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request. Names in `fields` are in lower case; `is_last` says that its connection ends after it.

    `can_chunk`: its response may be sent in chunks, as in HTTP/1.1 (RFC 9112 section 7.1). `is_encrypted`: it came over
    TLS. `certificate` is the verified one of the client, as `SSLObject.getpeercert` describes it; None without one.
    `is_unread`: more of it may come, which nobody reads. `refusal` is a status, with `reason`, where this is no request
    that can be answered otherwise.
    """

    method: bytes = b""
    target: bytes = b""
    fields: Sequence[tuple[bytes, bytes]] = ()
    remote: str = ""
    is_last: bool = True
    can_chunk: bool = False
    is_unread: bool = False
    refusal: int = 0
    reason: str = ""
    body: bytes = b""
    is_encrypted: bool = False
    certificate: Mapping[str, Any] | None = None


def read_field(fields: Sequence[tuple[bytes, bytes]], name: bytes) -> str:
    """Return the values of a field, joined by commas (RFC 9110 section 5.3); empty if there is none."""
    return b", ".join(value for each, value in fields if each == name).decode("latin-1")


class BodyStream(Protocol):
    """A body that is sent part by part. The next part is asked for when the client has room for it."""

    def __anext__(self) -> Awaitable[bytes]:
        """Return the next part once there is one; raises StopAsyncIteration at the end."""

    def close(self) -> None:
        """End it; called once in any case, also if no part was asked for."""


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """A response. `fields` are added to its length; `is_last` ends the connection after it.

    With `stream`, that is the body, and there is no length.
    """

    status: int
    fields: Sequence[tuple[bytes, bytes]] = ()
    body: bytes = b""
    is_last: bool = False
    stream: BodyStream | None = None

    def render(self, *, is_head: bool = False, is_last: bool = False) -> bytes:
        """Render it; without its body for HEAD."""
        lines = self._build_head()
        is_without_body = self.status in _HEADS_ONLY
        if not is_without_body:
            lines.append(b"Content-Length: %d" % len(self.body))
        if is_last:
            lines.append(b"Connection: close")
        return b"\r\n".join([*lines, b"", b"" if is_head or is_without_body else self.body])

    def render_stream_head(self, *, is_chunked: bool, is_last: bool) -> bytes:
        """Render the head of a stream. One that is not sent in chunks ends with the connection."""
        lines = self._build_head()
        if is_chunked:
            lines.append(b"Transfer-Encoding: chunked")
        if is_last:
            lines.append(b"Connection: close")
        return b"\r\n".join([*lines, b"", b""])

    def _build_head(self) -> list[bytes]:
        status_line = b"HTTP/1.1 %d %b" % (self.status, _PHRASES.get(self.status, b""))
        return [status_line, *(b"%b: %b" % field for field in self.fields)]


class RequestLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How large a request's head may be, and the body of a POST request by its path, without a query."""

    head_bytes: int = 16 * 1024
    fields: int = 100
    body_bytes: Mapping[bytes, int] = {}


class RequestReader:
    """Turns bytes into requests. Behind one with `is_last` nothing is read."""

    __slots__ = (
        "_body",
        "_body_limit",
        "_certificate",
        "_fed_bytes",
        "_fields",
        "_has_head",
        "_head_bytes",
        "_is_encrypted",
        "_is_over",
        "_limits",
        "_parser",
        "_remote",
        "_target",
        "_unfinished",
        "requests",
    )

    def __init__(self, limits: RequestLimits, *, remote: str = "") -> None:
        self._parser: Any = httptools.HttpRequestParser(self)
        self._limits = limits
        self._remote = remote
        self._is_encrypted = False
        self._certificate: Mapping[str, Any] | None = None
        self._is_over = False
        self._unfinished: Request | None = None
        """A request whose body is being read."""
        self.requests: deque[Request] = deque()
        self._start()

    def __repr__(self) -> str:
        return f"<RequestReader {len(self.requests)} requests>"

    def note_tls(self, certificate: Mapping[str, Any] | None) -> None:
        """Note that everything comes over TLS, with the client's certificate if it has shown one."""
        self._is_encrypted = True
        self._certificate = certificate or None

    def feed(self, data: bytes | memoryview) -> None:
        """Read what came."""
        if self._is_over:
            return
        self._fed_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # it is answered as if it had not asked for another protocol
        except httptools.HttpParserError:
            self._refuse(400, "not a request of HTTP/1.1")
        if not self._has_head and self._fed_bytes > self._limits.head_bytes:
            self._refuse(431, f"the head is over {self._limits.head_bytes} bytes")

    def release(self) -> None:
        """Release the parser: it and this object refer to each other."""
        self._parser = None

    def on_url(self, data: bytes) -> None:
        """See a part of the target."""
        self._target += data
        self._count_head(len(data))

    def on_header(self, name: bytes, value: bytes) -> None:
        """See a field of the head, or of trailers, which count but are not told."""
        self._count_head(len(name) + len(value))
        if len(self._fields) >= self._limits.fields:
            self._refuse(431, f"over {self._limits.fields} fields")
        elif not self._has_head:
            self._fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """See the end of a head, which makes a request."""
        self._has_head = True
        is_current = self._parser.get_http_version() == "1.1"
        if is_current and sum(name == b"host" for name, _ in self._fields) != 1:
            self._refuse(400, "there must be one Host")  # RFC 9112 section 3.2
        elif not self._is_over:
            has_body = any(name in _BODY_FIELDS and value != b"0" for name, value in self._fields)
            goes_on = is_current and self._parser.should_keep_alive() and not self._parser.should_upgrade()
            limit = self._find_body_limit() if has_body else None
            request = Request(
                method=self._parser.get_method(),
                target=_cut_path(self._target),
                fields=self._fields,
                remote=self._remote,
                is_last=(has_body and limit is None) or not goes_on,
                can_chunk=is_current,
                is_unread=has_body and limit is None,
                is_encrypted=self._is_encrypted,
                certificate=self._certificate,
            )
            self._is_over = request.is_last and limit is None
            if limit is None:
                self.requests.append(request)
            else:
                self._unfinished, self._body_limit = request, limit
                self._check_length(limit)

    def on_body(self, data: bytes) -> None:
        """See a part of a body."""
        if self._unfinished is None or self._is_over:
            return
        if len(self._body) + len(data) > self._body_limit:
            self._refuse(413, f"the body is over {self._body_limit} bytes")
        else:
            self._body += data

    def on_message_complete(self) -> None:
        """See the end of a request."""
        if self._unfinished is not None and not self._is_over:
            self._is_over = self._unfinished.is_last
            self.requests.append(msgspec.structs.replace(self._unfinished, body=bytes(self._body)))
        self._start()

    def _find_body_limit(self) -> int | None:
        """Return how long the body of the current request may be; None if it is not read."""
        if self._parser.get_method() != b"POST" or self._parser.should_upgrade():
            return None
        return self._limits.body_bytes.get(_cut_path(self._target).partition(b"?")[0])

    def _check_length(self, limit: int) -> None:
        """Refuse a body whose announced length is over the limit."""
        length = read_field(self._fields, b"content-length")
        if length.isdecimal() and int(length[:20]) > limit:
            self._refuse(413, f"the body is over {limit} bytes")

    def _start(self) -> None:
        self._target = b""
        self._body = bytearray()
        self._body_limit = 0
        self._unfinished = None
        self._fields: list[tuple[bytes, bytes]] = []
        self._fed_bytes = self._head_bytes = 0
        self._has_head = False

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self._limits.head_bytes:
            self._refuse(431, f"the head is over {self._limits.head_bytes} bytes")

    def _refuse(self, status: int, reason: str) -> None:
        if not self._is_over:
            self._is_over = True
            self.requests.append(Request(refusal=status, reason=reason, is_unread=True))


def _cut_path(target: bytes) -> bytes:
    """Cut a target in absolute form down to its path and query; every server accepts it (RFC 9112 section 3.2.2)."""
    scheme, mark, rest = target.partition(b"://")
    return b"/" + rest.partition(b"/")[2] if mark and scheme.isalpha() else target
