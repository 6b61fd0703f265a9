"""A copy of a request, on its way to one server of a side service; its response is discarded.

Takes a rendered head and a body, and sends them once: nothing about a copy reaches the exchange that it was made from,
and nobody waits for it. Implements the receiver that upstream connections call (upstreams/upstream_stream.py), like an
attempt (attempt.py). It counts in no service's requests, and only its outcome is counted (copies.py).
"""

from typing import Final, final

from maesh_core.errors import ExchangeError
from maesh_core.proxy.http.copies import ANSWERED, COPY_TIMEOUT_S, FAILED, Copies
from maesh_core.proxy.http.environment import Environment
from maesh_core.proxy.http.http2.frames import CANCEL, INTERNAL_ERROR
from maesh_core.proxy.http.messages.headers import Headers
from maesh_core.proxy.http.messages.request_head import RequestHead
from maesh_core.proxy.http.messages.response_head import ResponseHead
from maesh_core.proxy.http.messages.syntax import IDEMPOTENT
from maesh_core.proxy.http.upstreams.connection_pool import HttpServer
from maesh_core.proxy.http.upstreams.upstream_stream import (
    RENDERED,
    UNCHANGED,
    ClientSide,
    Forwarding,
    ResponseReceiver,
    UpstreamStream,
)
from maesh_core.proxy.transport.path_counts import ConnectionPath


@final
class _Discard(ClientSide):
    """The client's side of a copy: there is no client, so everything is discarded."""

    __slots__ = ()

    @property
    def is_unchunked(self) -> bool:
        """Whether content is needed without framing; it is discarded either way."""
        return False

    def write(self, data: bytes) -> None:
        """Discard bytes."""

    def write_content(self, data: bytes) -> None:
        """Discard bytes."""

    def end_content(self, trailers: bytes) -> None:
        """Discard trailers."""

    def on_progress(self) -> None:
        """Do nothing: the copy has one deadline."""

    def pause_reading(self) -> None:
        """Do nothing: the whole body is in memory, and was counted."""

    def resume_reading(self) -> None:
        """Do nothing."""


_DISCARD: Final = _Discard()


@final
class CopyAttempt(ResponseReceiver):
    """One copy. `end` is called exactly once, with its outcome."""

    __slots__ = (
        "_body",
        "_client_address",
        "_copies",
        "_destination",
        "_forwarded",
        "_head",
        "_is_ended",
        "_is_resent",
        "_server",
        "_service",
        "_size",
        "_upstream",
        "client",
        "deadline",
        "discarded_bytes",
        "is_head_request",
    )

    def __init__(
        self,
        environment: Environment,
        server: HttpServer,
        head: RequestHead,
        body: bytes,
        *,
        forwarded: bytes,
        service: str,
        destination: str,
        client_address: str,
    ) -> None:
        self._copies: Copies = environment.copies
        self._server = server
        self._head, self._body, self._forwarded = head, body, forwarded
        self._size = len(body)
        self._service, self._destination = service, destination
        self._client_address = client_address
        self._upstream: UpstreamStream | None = None
        self._is_resent = self._is_ended = False
        self.client: ClientSide = _DISCARD
        self.is_head_request = head.method == b"HEAD"
        self.deadline = environment.clock.now + min(environment.response_timeout or COPY_TIMEOUT_S, COPY_TIMEOUT_S)
        self.discarded_bytes = 0

    def __repr__(self) -> str:
        return f"<CopyAttempt of {self._service} to {self._destination} at {self._server.key}>"

    def begin(self) -> None:
        """Send the copy over a pooled connection, or over a new one."""
        self._copies.add(self, self._destination, self._size)
        self._open(is_fresh=False)

    def _open(self, *, is_fresh: bool) -> None:
        server = self._server
        if not is_fresh:
            if server.idle:
                self._send(server.take_idle())
                return
            stream = server.open_stream(is_upgrade=False) if server.multiplexed else None
            if stream is not None:
                self._send(stream)
                return
        server.connect(self, is_fresh=is_fresh)

    def _send(self, upstream: UpstreamStream) -> None:
        self._upstream = upstream
        upstream.send_request(self, self._head, None, self._forwarded, self._body)

    def end(self, outcome: str) -> None:
        """End the copy, and close its connection or cancel the connect."""
        if self._is_ended:
            return
        self._is_ended = True
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abandon(CANCEL)
        else:
            self._server.forget(self)
        self._finish(outcome)

    def _finish(self, outcome: str) -> None:
        self._is_ended = True
        self._upstream = None
        self._body = b""
        self._copies.remove(self, self._destination, self._size)
        self._copies.count(self._service, self._destination, outcome)

    def _lose(self, outcome: str) -> None:
        """End a copy whose connection has ended by itself."""
        if not self._is_ended:
            self._finish(outcome)

    # --- called by the upstream stream (see ResponseReceiver)

    @property
    def has_request_left(self) -> bool:
        """Whether part of the body has not arrived yet; a copy begins with the whole body."""
        return False

    def describe_delivery(self) -> tuple[str, str]:
        """Return the key of the side service, and the client's address."""
        return self._destination, self._client_address

    def note_path(self, path: ConnectionPath) -> None:
        """Do nothing: only requests are counted by their path."""

    def count_ejection(self) -> None:
        """Do nothing: the server is not one of the service that was called."""

    def on_connected(self, upstream: UpstreamStream) -> None:
        """Send the copy over the new connection."""
        self._send(upstream)

    def on_connect_failed(self, error: ExchangeError) -> None:
        """Give up: a copy is not worth another server."""
        self._lose(FAILED)

    def on_closed(self, error: ExchangeError, *, is_stale: bool) -> None:
        """Send the copy over a new connection if a pooled one was stale (RFC 9112 section 9.3.1)."""
        self._upstream = None
        if is_stale and not self._is_resent and not self._body and self._head.method in IDEMPOTENT:
            self._is_resent = True
            self._open(is_fresh=True)
        else:
            self._lose(FAILED)

    def on_refused(self, error: ExchangeError, body: bytes | None) -> None:
        """Send the copy once more: the server has not processed it."""
        self._upstream = None
        if self._is_resent:
            self._lose(FAILED)
        else:
            self._is_resent = True
            self._open(is_fresh=False)

    def on_broken(self, error: ExchangeError) -> None:
        """Give up: the response is not valid."""
        self._lose(FAILED)

    def on_informational(self, response: ResponseHead) -> None:
        """Discard a 1xx response."""

    def on_switching(self, upstream: UpstreamStream, response: ResponseHead, rest: bytes) -> None:
        """Give up: the copy offered no upgrade."""
        self.end(FAILED)

    def on_response_head(self, response: ResponseHead, *, is_whole: bool) -> Forwarding:
        """Let the response arrive, so that the connection can be used again; a whole one is not processed further."""
        return UNCHANGED if is_whole else RENDERED

    def start_response(self, body: bytes) -> None:
        """Discard the first bytes."""

    def count_content(self, size: int) -> None:
        """Count bytes of the response, which are limited."""
        self.discarded_bytes += size

    def on_lost(self) -> None:
        """End: the response was cut."""
        self._lose(FAILED)

    def on_response_complete(self) -> None:
        """End successfully, whatever the status was."""
        self._lose(ANSWERED)

    def abort(self, code: int = INTERNAL_ERROR) -> None:
        """End: the response cannot be received completely."""
        self.end(FAILED)


def build_copy_head(head: RequestHead, changed: Headers | None, size: int) -> RequestHead:
    """Build the head of a copy with a body of this size, which is sent with its length and without expectation.

    `changed` holds the fields if a middleware has changed them; later changes do not affect the copy.
    """
    is_framed = head.body == size and b"Expect" not in head.framing
    if is_framed and changed is None:
        return head
    framing = head.framing if is_framed else b"Content-Length: %d\r\n" % size if size or head.body else b""
    lines = (changed or head.build_headers()).lines
    return RequestHead(
        head.head,
        head.method,
        head.target,
        head.authority,
        head.host,
        b"".join((head.render_start(), *lines, framing)),
        body=size,
        framing=framing,
        is_http_1_0=head.is_http_1_0,
        dropped=head.dropped,
        forwarded=head.forwarded,
        takes_trailers=head.takes_trailers,
        is_grpc=head.is_grpc,
    )
