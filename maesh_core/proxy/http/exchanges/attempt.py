"""One attempt of an exchange: it connects to one server, sends the request, and reports the outcome.

Takes an exchange and a server. Implements what upstream connections call (upstreams/upstream_stream.py), and calls the
exchange only through `AttemptUser`, which is declared below. It does not decide what follows from its outcome.
"""

import asyncio
from typing import Protocol, final

from maesh_core.errors import ConnectTimeoutError, ExchangeError, UpstreamTimeoutError
from maesh_core.proxy.http.exchanges.answers import CONNECT_TIMEOUT, RESPONSE_TIMEOUT
from maesh_core.proxy.http.exchanges.client_stream import ClientStream
from maesh_core.proxy.http.messages.headers import Headers
from maesh_core.proxy.http.messages.request_head import RequestHead
from maesh_core.proxy.http.messages.response_head import ResponseHead
from maesh_core.proxy.http.messages.syntax import IDEMPOTENT
from maesh_core.proxy.http.upstreams.connection_pool import HttpServer
from maesh_core.proxy.http.upstreams.upstream_stream import ClientSide, Passing, ResponseReceiver, UpstreamStream


class AttemptUser(Protocol):
    """The exchange, as its attempt sees it."""

    __slots__ = ("pending_body",)

    client: ClientStream
    head: RequestHead
    changed_headers: Headers | None
    """The header fields that go upstream, where a middleware has changed them."""
    pending_body: bytearray | None
    """What has come of the body before there was a connection; the attempt takes it."""
    request_left: int
    is_head_request: bool
    is_expecting: bool
    is_finished: bool

    def count_ejection(self) -> None:
        """Count that the server was set aside."""

    def on_attempt_failed(self, error: ExchangeError) -> None:
        """Continue after the attempt failed before a response head."""

    def on_informational(self, response: ResponseHead) -> None:
        """Pass on a 1xx response."""

    def on_switching(self, upstream: UpstreamStream, response: ResponseHead, rest: bytes) -> None:
        """Receive a 101 and the bytes behind it. Raises UpstreamProtocolError."""

    def on_response_head(self, response: ResponseHead, *, is_whole: bool) -> Passing:
        """Receive the head of the final response, and decide how it continues."""

    def start_response(self, response: ResponseHead, body: bytes) -> None:
        """Send the head and the first bytes of the body to the client."""

    def on_response_complete(self) -> None:
        """End the exchange: the client's transport has the whole response."""

    def cut(self) -> None:
        """End the exchange in the middle of a response."""


@final
class Attempt(ResponseReceiver):
    """One attempt at `server`.

    It connects, has an `upstream`, or has ended. `was_sent` says that the request's head was sent, and
    `has_sent_body` that bytes of its body were. `response` is the head of its final response.
    """

    __slots__ = (
        "_exchange",
        "_timer",
        "client",
        "has_sent_body",
        "is_head_request",
        "response",
        "server",
        "upstream",
        "was_sent",
    )

    def __init__(self, exchange: AttemptUser, server: HttpServer) -> None:
        self._exchange = exchange
        self._timer: asyncio.TimerHandle | None = None
        self.client: ClientSide = exchange.client
        self.is_head_request = exchange.is_head_request
        self.has_sent_body = False
        self.was_sent = False
        self.response: ResponseHead | None = None
        self.server = server
        self.upstream: UpstreamStream | None = None

    def __repr__(self) -> str:
        state = "under way" if self.upstream is not None else "sent" if self.was_sent else "not sent"
        return f"<Attempt at {self.server.key} {state}>"

    # --- what the exchange asks for

    def begin(self) -> None:
        """Send the request over a pooled connection, or over a new one."""
        server = self.server
        if server.idle:
            self._send(server.take_idle())
        else:
            self._connect()

    def limit(self, timeout_s: float) -> None:
        """End the attempt as failed unless it brings a response head within so many seconds."""
        self._timer = asyncio.get_running_loop().call_later(timeout_s, self._on_timeout)

    def write_body(self, body: bytes) -> None:
        """Send bytes of the request's body; there is an upstream."""
        upstream = self.upstream
        if upstream is not None:
            self.has_sent_body = self.has_sent_body or bool(body)
            upstream.write(body)

    def abandon(self) -> None:
        """End the attempt: its connection, or the one that is being made, is closed."""
        self._stop_timer()
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            upstream.abandon()
        else:
            self.server.forget(self)

    # --- connecting and sending

    def _connect(self) -> None:
        self._exchange.client.wait(None)
        self.server.connect(self)

    def _send(self, upstream: UpstreamStream) -> None:
        """Send the head, and what has come of the body, over a connection that is ours until the exchange ends."""
        self.upstream = upstream
        self.was_sent = True
        exchange = self._exchange
        client, head = exchange.client, exchange.head
        body: bytes | bytearray = b""
        if exchange.pending_body is not None:
            body, exchange.pending_body = exchange.pending_body, None
            self.has_sent_body = True
        forwarded = client.forwarded.render(head.authority, head.forwarded)
        upstream.send_request(self, head, exchange.changed_headers, forwarded, body)
        environment = client.environment
        is_body_due = exchange.request_left and not exchange.is_expecting
        wait_s = environment.body_timeout if is_body_due else environment.response_timeout
        client.deadline = environment.clock.now + wait_s  # wait_for_exchange(), at half its price
        if client.is_read_paused or client.is_write_paused:
            client.on_upstream_ready(upstream)

    def _on_timeout(self) -> None:
        self._timer = None
        if self.upstream is None:  # it is connecting
            self.server.note_failure(self)
            self._exchange.on_attempt_failed(ConnectTimeoutError(CONNECT_TIMEOUT))
        else:
            self._exchange.on_attempt_failed(UpstreamTimeoutError(RESPONSE_TIMEOUT))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- what the upstream's side reports (see ResponseReceiver)

    @property
    def has_request_left(self) -> bool:
        """Whether a part of the request's body has not come yet."""
        return self._exchange.request_left != 0

    def count_ejection(self) -> None:
        """Count that the server was set aside."""
        self._exchange.count_ejection()

    def on_connected(self, upstream: UpstreamStream) -> None:
        """Send the request over a connection that was made for this attempt."""
        self._send(upstream)

    def on_connect_failed(self, error: ExchangeError) -> None:
        """Report that the server could not be connected to."""
        self._exchange.on_attempt_failed(error)

    def on_closed(self, error: ExchangeError, *, is_stale: bool) -> None:
        """Send the request once more over a new connection where that is safe; report the failure otherwise.

        Safe is an idempotent request on a stale connection, as long as none of its body was sent (RFC 9112 section
        9.3.1). So is a request whose client still waits for a 100: without its body it can have had no effect.
        """
        self.upstream = None
        exchange = self._exchange
        is_harmless = exchange.head.method in IDEMPOTENT or exchange.is_expecting
        if is_stale and is_harmless and not self.has_sent_body and not exchange.is_finished:
            self._connect()
        else:
            exchange.on_attempt_failed(error)

    def on_broken(self, error: ExchangeError) -> None:
        """Report a connection that brought something that is not a response."""
        self.upstream = None
        self._exchange.on_attempt_failed(error)

    def on_informational(self, response: ResponseHead) -> None:
        """Pass on a 1xx response."""
        self._exchange.on_informational(response)

    def on_switching(self, upstream: UpstreamStream, response: ResponseHead, rest: bytes) -> None:
        """Receive a 101 and the bytes behind it. Raises UpstreamProtocolError."""
        self._stop_timer()
        self._exchange.on_switching(upstream, response, rest)

    def on_response_head(self, response: ResponseHead, *, is_whole: bool) -> Passing:
        """Receive the head of the final response."""
        if self._timer is not None:
            self._stop_timer()
        self.response = response
        return self._exchange.on_response_head(response, is_whole=is_whole)

    def start_response(self, body: bytes) -> None:
        """Send the response's head to the client, and the first bytes of the body with it."""
        response = self.response
        assert response is not None  # noqa: S101 - on_response_head() set it
        self._exchange.start_response(response, body)

    def on_response_complete(self) -> None:
        """End well."""
        self.upstream = None
        self._exchange.on_response_complete()

    def cut(self) -> None:
        """End the exchange in the middle of a response."""
        self._exchange.cut()
