"""The head of a request: what an exchange reads of it, sends upstream, and shows to middlewares.

A value without checks of its own: request_parsing.py creates it from the bytes of HTTP/1.1, and so, after translating
them, does http2/request_fields.py from the fields of HTTP/2.
"""

from collections.abc import Callable, Iterator
from typing import ClassVar, Final, final

from maesh_core.plugin_system.field_changes import FieldChanges
from maesh_core.proxy.http.messages.head import Head
from maesh_core.proxy.http.messages.headers import Headers, split_field, split_fields
from maesh_core.proxy.http.messages.scanning import NOT_SEARCHED
from maesh_core.proxy.http.messages.syntax import find_declared_length, parse_host
from maesh_core.proxy.middleware.chain import ChangeChooser
from maesh_core.values.field_rules import FORWARDED, HOP_BY_HOP, search_trace_context

CHUNKED: Final = -1
"""A number of remaining bytes: the body is chunked, and its last chunk has not arrived yet."""
STREAMED: Final = -3
"""A number of remaining bytes: the body's bytes come without framing, and its end is signalled separately; used for
HTTP/2 messages."""

CACHED_HEAD_LIMIT_BYTES: Final = 1024
"""A connection's last head is cached up to this size: a repeated head is free, a new ordinary one takes 1.3 us, any
other 4 us. (A cache shared by all connections cost each new head 1.5 us, and only helped repeated ones.)"""

KEPT_NAMES: Final = 8
"""Fields of one head whose values are kept, at most."""

SPECIAL: Final = HOP_BY_HOP | {b"host", b"content-length", b"expect", *FORWARDED}
"""Fields that the mesh reads, and writes itself if they are forwarded."""
_READABLE: Final = {b"content-length", b"expect"}

_FIELDS: Final = (
    "head",
    "method",
    "target",
    "authority",
    "host",
    "outgoing",
    "is_keep_alive",
    "body",
    "framing",
    "is_http_1_0",
    "dropped",
    "forwarded",
    "upgrade",
    "is_expecting",
    "takes_trailers",
    "never_indexed",
    "is_grpc",
    "grpc_timeout_s",
)


@final
class RequestHead(Head):
    """A parsed request head.

    `head` is its bytes; `outgoing` is the part to send upstream, without the fields that the mesh adds after it. `body`
    is the number of body bytes, CHUNKED or STREAMED, and `framing` the fields that declare it to a server of HTTP/1.1.
    `dropped` names the fields that are not forwarded. `forwarded` holds the client's values of the fields in FORWARDED,
    and `upgrade` the protocols that the client offers. `is_expecting` means that the client waits for a 100 before it
    sends the body, `takes_trailers` that it sent `TE: trailers` (RFC 9110 section 10.1.4). `never_indexed` names the
    fields that HTTP/2 must not compress on any hop (RFC 7541 section 7.1.3).
    `is_grpc` means that the request is a gRPC call over HTTP/2, and `grpc_timeout_s` is its time-out; 0 means none.
    """

    __slots__ = (  # the base has `head`
        *_FIELDS[1:],
        "_found",
        "_is_found",
        "_request_changes",
        "_request_changes_of",
        "_response_changes",
        "_response_changes_of",
        "_rewritten",
        "_search",
        "backend",
        "backend_of",
        "chosen",
        "chosen_by",
        "matching_s",
        "trace",
    )

    fields: ClassVar[tuple[str, ...]] = _FIELDS

    def __init__(
        self,
        head: bytes,
        method: bytes,
        target: bytes,
        authority: bytes,
        host: bytes,
        outgoing: bytes,
        is_keep_alive: bool = True,  # noqa: FBT001, FBT002
        body: int = 0,
        framing: bytes = b"",
        is_http_1_0: bool = False,  # noqa: FBT001, FBT002
        dropped: frozenset[bytes] = SPECIAL,
        forwarded: dict[bytes, bytes] | None = None,
        upgrade: bytes = b"",
        is_expecting: bool = False,  # noqa: FBT001, FBT002
        takes_trailers: bool = False,  # noqa: FBT001, FBT002
        is_grpc: bool = False,  # noqa: FBT001, FBT002
        grpc_timeout_s: float = 0.0,
    ) -> None:
        super().__init__(head)
        self.method = method
        self.target = target
        self.authority = authority
        self.host = host
        self.outgoing = outgoing
        self.is_keep_alive = is_keep_alive
        self.body = body
        self.framing = framing
        self.is_http_1_0 = is_http_1_0
        self.dropped = dropped
        self.forwarded = forwarded
        self.upgrade = upgrade
        self.is_expecting = is_expecting
        self.takes_trailers = takes_trailers
        self.never_indexed: frozenset[bytes] = frozenset()
        self.is_grpc = is_grpc
        self.grpc_timeout_s = grpc_timeout_s
        self._search: Callable[[bytes], object] | None = None
        self._is_found = False
        self._found: dict[bytes, tuple[bytes, ...]] | None = None
        self.trace = NOT_SEARCHED
        """Whether it has a field of a trace context, as 1 or 0; NOT_SEARCHED if that was not looked at yet."""
        self._rewritten: RequestHead | None = None
        self._request_changes_of: ChangeChooser | None = None
        self._request_changes: FieldChanges | None = None
        self._response_changes_of: ChangeChooser | None = None
        self._response_changes: FieldChanges | None = None
        self.backend_of: object = None
        """The backends among which middlewares have chosen one for this head, and in `backend` that one or None."""
        self.backend: object = None
        self.chosen_by: object = None
        """What has chosen a rule for this head, and in `chosen` the rule's index, for a head that a client repeats."""
        self.chosen = 0
        self.matching_s = 0.0
        """CPU seconds that rules took to match it, if it had to be parsed for that."""

    def matches(self, search: Callable[[bytes], object]) -> bool:
        """Whether a search of the head finds something. The last answer is kept, for a head that a client repeats."""
        if self._search is not search:
            self._search, self._is_found = search, search(self.head) is not None
        return self._is_found

    @property
    def has_trace_context(self) -> bool:
        """Whether it has a field of a trace context: `traceparent`, `b3` or `X-B3-...`."""
        if self.trace == NOT_SEARCHED:
            self.trace = int(search_trace_context(self.head) is not None)
        return self.trace == 1

    @property
    def declared_length(self) -> int:
        """The Content-Length, -1 if there is none."""
        return find_declared_length(self.framing)

    def build_headers(self) -> Headers:
        """Return the fields to forward, without framing; the caller may change the result."""
        return Headers(self.head, self.dropped, self)

    def rewrite(self, target: bytes, authority: bytes) -> "RequestHead":
        """Return the head to send upstream with another checked target and authority; empty means the client's.

        The last result is kept, for a head that a client repeats.
        """
        target, authority = target or self.target, authority or self.authority
        last = self._rewritten
        if last is None or last.target != target or last.authority != authority:
            last = self._rewritten = self._rewrite(target, authority)
        return last

    def is_rewritten_to(self, target: bytes, authority: bytes) -> bool:
        """Whether the last result of `rewrite` has this other target, or this other authority: it was checked."""
        last = self._rewritten
        if last is None:
            return False
        if target:
            return last.target == target != self.target
        return last.authority == authority != self.authority

    def _rewrite(self, target: bytes, authority: bytes) -> "RequestHead":
        if authority == self.authority:
            fields = self.outgoing[self.outgoing.index(b"\r\n") + 2 :]
            outgoing = b"%b %b HTTP/1.1\r\n%b" % (self.method, target, fields)
        else:
            outgoing = render_start(self.method, target, authority) + self._cut_start()
        return self._copy(target, authority, outgoing, self.body, self.framing)

    def _cut_start(self) -> bytes:
        """Return what `outgoing` has after its request line, without its Host field; both are of one form each."""
        outgoing = self.outgoing
        start = outgoing.index(b"\r\n") + 2
        host = outgoing.lower().find(b"\nhost:", start - 1) + 1
        if not host:
            return outgoing[start:]
        return outgoing[start:host] + outgoing[outgoing.index(b"\r\n", host) + 2 :]

    def reframe(self, body: int, framing: bytes) -> "RequestHead":
        """Return the head to send upstream with a body of another size or form."""
        lines = split_fields(self.head, without=self.dropped)
        outgoing = b"".join((self.render_start(), *lines, framing))
        return self._copy(self.target, self.authority, outgoing, body, framing)

    def _copy(self, target: bytes, authority: bytes, outgoing: bytes, body: int, framing: bytes) -> "RequestHead":
        head = RequestHead(
            self.head,
            self.method,
            target,
            authority,
            parse_host(authority),
            outgoing,
            self.is_keep_alive,
            body,
            framing,
            self.is_http_1_0,
            self.dropped,
            self.forwarded,
            self.upgrade,
            self.is_expecting,
            self.takes_trailers,
            self.is_grpc,
            self.grpc_timeout_s,
        )
        head.never_indexed = self.never_indexed
        return head

    def find_request_changes(self, chooser: ChangeChooser) -> FieldChanges | None:
        """Return the changes of requests that a middleware has chosen for it. The last ones are kept."""
        if self._request_changes_of is not chooser:
            self._request_changes = chooser.choose(self)
            self._request_changes_of = chooser
        return self._request_changes

    def find_response_changes(self, chooser: ChangeChooser) -> FieldChanges | None:
        """Return the changes of responses that a middleware has chosen for it. The last ones are kept."""
        if self._response_changes_of is not chooser:
            self._response_changes = chooser.choose(self)
            self._response_changes_of = chooser
        return self._response_changes

    @property
    def client_headers(self) -> "ClientHeaders":
        """The fields as the client sent them."""
        return ClientHeaders(self)

    def find_values(self, name: bytes) -> tuple[bytes, ...]:
        """Return every value of a field, as `client_headers` shows it. Those of the last names are kept."""
        found = self._found
        if found is None:
            found = self._found = {}
        values = found.get(name)
        if values is None:
            if len(found) >= KEPT_NAMES:
                found.clear()
            lower = name.lower()
            values = found[name] = self._get_dropped(lower) if lower in self.dropped else self._find_all(lower)
        return values

    def _get_dropped(self, name: bytes) -> tuple[bytes, ...]:
        """Return the values of a field that the mesh writes itself or does not forward."""
        if name == b"host":
            return (self.authority,) if self.authority else ()
        if name in FORWARDED:
            return (self.forwarded[name],) if self.forwarded is not None and name in self.forwarded else ()
        return self._find_all(name) if name in _READABLE else ()

    def _find_all(self, name: bytes) -> tuple[bytes, ...]:
        lower, prefix = self.lower, b"\r\n%b:" % name
        start = lower.find(prefix)
        if start < 0:
            return ()
        values: list[bytes] = []
        while start >= 0:
            start += len(prefix)
            end = lower.index(b"\r\n", start)
            values.append(self.head[start:end].strip(b" \t"))
            start = lower.find(prefix, end)
        return tuple(values)

    def render_start(self) -> bytes:
        """Render the request line and Host to send upstream."""
        return render_start(self.method, self.target, self.authority)

    def render_changed(self, headers: Headers, forwarded: bytes) -> bytes:
        """Render the head to send upstream with changed header fields; it ends with the forwarded fields."""
        if not headers.is_split:
            return self.outgoing + headers.added + forwarded
        return b"".join((self.render_start(), headers.text, self.framing, forwarded))


class ClientHeaders:
    """Implements `interfaces.ReadableHeaders` by searching the bytes of a head."""

    __slots__ = ("_head",)

    def __init__(self, head: RequestHead) -> None:
        self._head = head

    def __repr__(self) -> str:
        return f"<ClientHeaders of {self._head.head!r}>"

    def get(self, name: bytes) -> bytes | None:
        """Return the first value, or None."""
        values = self._head.find_values(name)
        return values[0] if values else None

    def get_all(self, name: bytes) -> list[bytes]:
        """Return every value, in order; a forwarded field has one value, joined as it is sent upstream."""
        return list(self._head.find_values(name))

    def items(self) -> list[tuple[bytes, bytes]]:
        """Return every readable field, names in original case; a joined field is at the position of its first line."""
        found: list[tuple[bytes, bytes]] = []
        joined: set[bytes] = set()
        for line in split_fields(self._head.head, without=()):
            name, value = split_field(line)
            known = name.lower()
            if known not in self._head.dropped:
                found.append((name, value))
            elif known not in joined:
                joined.add(known)
                found.extend((name, each) for each in self._head.find_values(known))
        return found

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over the fields."""
        return iter(self.items())


def render_start(method: bytes, target: bytes, authority: bytes) -> bytes:
    """Render a request line and its Host field."""
    return b"%b %b HTTP/1.1\r\nHost: %b\r\n" % (method, target, authority)
