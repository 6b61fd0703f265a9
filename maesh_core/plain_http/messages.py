"""Requests and responses of the small HTTP server, and what makes requests out of bytes.

Takes what a client sends, in any pieces; gives requests in order. What makes no sense or is too large becomes a
refusal, after which nothing is read. Does no I/O.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any

import httptools
import msgspec

_PHRASES = {
    200: b"OK",
    304: b"Not Modified",
    400: b"Bad Request",
    404: b"Not Found",
    405: b"Method Not Allowed",
    413: b"Content Too Large",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
}
"""Those of the pages; without one, a status line ends in a space (RFC 9112 section 4)."""
_HEADS_ONLY = frozenset({204, 304})


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request. Names in `fields` are in lower case; `is_last` says that its connection ends after it.

    `refusal` is a status, with `reason`, where this is no request that can be answered otherwise.
    """

    method: bytes = b""
    target: bytes = b""
    fields: Sequence[tuple[bytes, bytes]] = ()
    remote: str = ""
    is_last: bool = True
    refusal: int = 0
    reason: str = ""


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """A response. `fields` are added to its length; `is_last` ends the connection after it."""

    status: int
    fields: Sequence[tuple[bytes, bytes]] = ()
    body: bytes = b""
    is_last: bool = False

    def render(self, *, is_head: bool = False, is_last: bool = False) -> bytes:
        """Render it; without its body for HEAD."""
        lines = [b"HTTP/1.1 %d %b" % (self.status, _PHRASES.get(self.status, b""))]
        lines.extend(b"%b: %b" % field for field in self.fields)
        is_without_body = self.status in _HEADS_ONLY
        if not is_without_body:
            lines.append(b"Content-Length: %d" % len(self.body))
        if is_last:
            lines.append(b"Connection: close")
        return b"\r\n".join([*lines, b"", b"" if is_head or is_without_body else self.body])


class RequestLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much a request may bring. No page reads a body: it is only passed over."""

    head_bytes: int = 16 * 1024
    fields: int = 100
    body_bytes: int = 64 * 1024


class RequestReader:
    """Turns bytes into requests. Once there is one with `is_last`, nothing may be fed any more."""

    __slots__ = (
        "_body_bytes",
        "_fed_bytes",
        "_fields",
        "_has_head",
        "_head_bytes",
        "_is_refused",
        "_limits",
        "_parser",
        "_remote",
        "_target",
        "requests",
    )

    def __init__(self, limits: RequestLimits, *, remote: str = "") -> None:
        self._parser: Any = httptools.HttpRequestParser(self)
        self._limits = limits
        self._remote = remote
        self._is_refused = False
        self.requests: deque[Request] = deque()
        self._start()

    def __repr__(self) -> str:
        return f"<RequestReader {len(self.requests)} requests>"

    def feed(self, data: bytes) -> None:
        """Read what came."""
        self._fed_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # it is answered as if it had not asked for another protocol
            if self.requests:
                self.requests.append(msgspec.structs.replace(self.requests.pop(), is_last=True))
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
        """See the end of a head."""
        self._has_head = True

    def on_body(self, data: bytes) -> None:
        """See a part of a body."""
        self._body_bytes += len(data)
        if self._body_bytes > self._limits.body_bytes:
            self._refuse(413, f"the body is over {self._limits.body_bytes} bytes")

    def on_message_complete(self) -> None:
        """See the end of a request. llhttp knows here, and only here, whether the connection goes on."""
        is_current = self._parser.get_http_version() == "1.1"
        if is_current and sum(name == b"host" for name, _ in self._fields) != 1:
            self._refuse(400, "there must be one Host")  # RFC 9112 section 3.2
        elif not self._is_refused:
            request = Request(
                method=self._parser.get_method(),
                target=_cut_path(self._target),
                fields=self._fields,
                remote=self._remote,
                is_last=not (is_current and self._parser.should_keep_alive()),
            )
            self.requests.append(request)
        self._start()

    def _start(self) -> None:
        self._target = b""
        self._fields: list[tuple[bytes, bytes]] = []
        self._fed_bytes = self._head_bytes = self._body_bytes = 0
        self._has_head = False

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self._limits.head_bytes:
            self._refuse(431, f"the head is over {self._limits.head_bytes} bytes")

    def _refuse(self, status: int, reason: str) -> None:
        if not self._is_refused:
            self._is_refused = True
            self.requests.append(Request(refusal=status, reason=reason))


def _cut_path(target: bytes) -> bytes:
    """Cut a target in absolute form down to its path and query; every server accepts it (RFC 9112 section 3.2.2)."""
    scheme, mark, rest = target.partition(b"://")
    return b"/" + rest.partition(b"/")[2] if mark and scheme.isalpha() else target
