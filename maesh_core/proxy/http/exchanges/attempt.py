"""One attempt of an exchange: connects to one server, sends the request, and reports the outcome.

Takes an exchange and a server. Implements the receiver that upstream connections call (upstreams/upstream_stream.py),
and calls the exchange only through the `AttemptUser` protocol below. It does not decide what happens after its outcome.
"""

from typing import Final, Protocol, final

from maesh_core.errors import ConnectTimeoutError, ExchangeError, ServerNotTriedError, UpstreamTimeoutError
from maesh_core.model.transport import ENCRYPTED
from maesh_core.proxy.http.answers import ATTEMPT_TIMEOUT, CONNECT_TIMEOUT, RESPONSE_TIMEOUT
from maesh_core.proxy.http.exchanges.client_stream import ClientStream
from maesh_core.proxy.http.http2.frames import CANCEL, INTERNAL_ERROR
from maesh_core.proxy.http.messages.forwarding import NO_FORWARDED
from maesh_core.proxy.http.messages.headers import Headers
from maesh_core.proxy.http.messages.request_head import STREAMED, RequestHead
from maesh_core.proxy.http.messages.response_head import ResponseHead
from maesh_core.proxy.http.messages.syntax import IDEMPOTENT
from maesh_core.proxy.http.upstreams.connection_pool import HttpServer
from maesh_core.proxy.http.upstreams.upstream_stream import ClientSide, Forwarding, ResponseReceiver, UpstreamStream
from maesh_core.proxy.network.time_limits import TimeLimit
from maesh_core.proxy.transport.path_counts import ConnectionPath


class AttemptUser(Protocol):
    """The part of an exchange that its attempt uses."""

    __slots__ = ("pending_body",)

    client: ClientStream
    head: RequestHead
    rewritten: RequestHead | None
    """The head to send in place of the client's, if a middleware has changed its target or host; otherwise None."""
    changed_headers: Headers | None
    """The header fields to send upstream, if a middleware has changed them; otherwise None."""
    pending_body: bytearray | None
    """Body bytes that arrived before there was a connection; the attempt removes them when it sends them."""
    request_left: int
    is_head_request: bool
    is_expecting: bool
    is_finished: bool
    trailers: bytes
    """The trailer lines of a streamed body that has ended."""

    @property
    def has_body_left(self) -> bool:
        """Whether part of the request's body was not passed on yet."""

    def on_stored_sent(self) -> None:
        """Continue after the stored body bytes were sent."""

    def find_destination(self) -> str:
        """Return the key of the service that gets the request: that of the route, of a branch, or of a part."""

    def count_ejection(self) -> None:
        """Count that the server was set aside."""

    def pick_other(self, passed_over: tuple[HttpServer, ...]) -> HttpServer | None:
        """Pick another server than these, which could not be tried; None if there is no other."""

    def on_attempt_failed(self, error: ExchangeError) -> None:
        """Handle an attempt that failed before a response head."""

    def on_informational(self, response: ResponseHead) -> None:
        """Forward a 1xx response."""

    def on_switching(self, upstream: UpstreamStream, response: ResponseHead, rest: bytes) -> None:
        """Handle a 101 and the bytes after it. Raises UpstreamProtocolError."""

    def on_response_head(self, response: ResponseHead, *, is_whole: bool) -> Forwarding:
        """Handle the head of the final response, and decide how the response is forwarded."""

    def start_response(self, response: ResponseHead, body: bytes) -> None:
        """Send the head and the first bytes of the body to the client."""

    def count_content(self, size: int) -> None:
        """Count bytes of the response's body that are forwarded, without framing."""

    def on_response_complete(self) -> None:
        """End the exchange: the whole response was written to the client's transport."""

    def on_late(self, reason: str) -> None:
        """End an exchange whose response, which may have begun, was not complete in time."""

    def on_lost(self, response: ResponseHead) -> None:
        """End an exchange whose upstream was lost in the middle of this response."""

    def repeat_body(self, body: bytes | bytearray) -> None:
        """Replace the stored body bytes by `body`, for another attempt."""

    def abort(self, code: int = INTERNAL_ERROR) -> None:
        """Abort the exchange in the middle of a response."""


REFUSAL_LIMIT: Final = 3
"""Times that one attempt sends its request again because the server has refused it unprocessed."""
PASSED_OVER_LIMIT: Final = 8
"""Servers that one attempt passes over because they cannot be tried: their nodes cannot be reached."""


@final
class Attempt(ResponseReceiver):
    """One attempt at `server`, in place of others if these could not be tried.

    Its states are: connecting, in progress (with an `upstream`), and ended. `was_sent` means that the request's head
    was sent, `has_sent_body` that bytes of its body were sent. `response` is the head of its final response. `path` is
    how its connection was opened, if the service has encryption.
    """

    __slots__ = (
        "_exchange",
        "_head_limit",
        "_is_clients_limit",
        "_is_resent",
        "_passed_over",
        "_refusals",
        "_total_limit",
        "client",
        "has_sent_body",
        "is_head_request",
        "path",
        "response",
        "server",
        "upstream",
        "was_sent",
    )

    def __init__(self, exchange: AttemptUser, server: HttpServer) -> None:
        self._exchange = exchange
        self._head_limit: TimeLimit | None = None
        self._total_limit: TimeLimit | None = None
        self._is_resent = False
        self._refusals = 0
        self._is_clients_limit = False
        self._passed_over: tuple[HttpServer, ...] = ()
        self.client: ClientSide = exchange.client
        self.is_head_request = exchange.is_head_request
        self.has_sent_body = False
        self.was_sent = False
        self.path: ConnectionPath | None = None
        self.response: ResponseHead | None = None
        self.server = server
        self.upstream: UpstreamStream | None = None

    def __repr__(self) -> str:
        state = "under way" if self.upstream is not None else "sent" if self.was_sent else "not sent"
        return f"<Attempt at {self.server.key} {state}>"

    # --- called by the exchange

    def begin(self) -> None:
        """Send the request over a pooled connection, or over a new one."""
        server = self.server
        if server.idle:
            self._send(server.take_idle())
            return
        stream = server.open_stream(is_upgrade=self._is_upgrade) if server.multiplexed else None
        if stream is not None:
            self._send(stream)
        else:
            self._connect()

    def limit(self, timeout_s: float, client_timeout_s: float, now: float) -> None:
        """Fail the attempt unless a response head arrives in time from now on. The shorter time counts; 0 means none.

        `client_timeout_s` is the client's. A server that it is too short for is not set aside.
        """
        if client_timeout_s and not 0 < timeout_s <= client_timeout_s:
            self._is_clients_limit = True
            self._head_limit = self._exchange.client.environment.head_limits.begin_alone(self, client_timeout_s, now)
        else:
            self._head_limit = self._exchange.client.environment.head_limits.begin(self, timeout_s, now)

    def limit_total(self, timeout_s: float, now: float) -> None:
        """Fail the attempt unless its response is complete in time from now on."""
        self._total_limit = self._exchange.client.environment.total_limits.begin(self, timeout_s, now)

    @property
    def has_total_limit(self) -> bool:
        """Whether `limit_total` limits it."""
        return self._total_limit is not None

    def write_body(self, body: bytes) -> None:
        """Send bytes of the request's body; the attempt must have an upstream."""
        upstream = self.upstream
        if upstream is not None:
            self.has_sent_body = self.has_sent_body or bool(body)
            upstream.write(body)

    def end_body(self) -> None:
        """End a streamed body; without an upstream, this happens when the request is sent."""
        if self.upstream is not None:
            self.upstream.end_body(self._exchange.trailers)

    def abandon(self, code: int = CANCEL) -> None:
        """End the attempt, and close its connection or cancel the connect."""
        self._stop_limits()
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            upstream.abandon(code)
        else:
            self.server.forget(self)

    # --- connecting and sending

    @property
    def _is_upgrade(self) -> bool:
        return bool(self._exchange.head.upgrade)

    def _connect(self, *, is_fresh: bool = False) -> None:
        self._exchange.client.wait(None)
        self.server.connect(self, is_upgrade=self._is_upgrade, is_fresh=is_fresh)

    def _send(self, upstream: UpstreamStream) -> None:
        """Send the head, and the body received so far, over a connection that this attempt owns from now on."""
        self.upstream = upstream
        self.was_sent = True
        exchange = self._exchange
        client, head = exchange.client, exchange.head
        body: bytes | bytearray = b""
        if exchange.pending_body is not None:
            body, exchange.pending_body = exchange.pending_body, None
            self.has_sent_body = True
        server = self.server
        forwarded = NO_FORWARDED if server.hides_client else client.forwarded.render(head.authority, head.forwarded)
        sent = exchange.rewritten or head
        if server.authority and sent.authority == head.authority:  # a middleware may have chosen another host
            sent = sent.rewrite(b"", server.authority)
        upstream.send_request(self, sent, exchange.changed_headers, forwarded, body)
        if sent.body == STREAMED and not exchange.has_body_left:
            upstream.end_body(exchange.trailers)
        environment = client.environment
        is_body_due = exchange.request_left and not exchange.is_expecting
        wait_s = environment.body_timeout if is_body_due else environment.response_timeout
        client.wait(wait_s)  # as wait_for_exchange() does, at half the cost
        if client.is_read_paused or client.is_write_paused:
            client.on_upstream_ready(upstream)
        if self.has_sent_body:
            exchange.on_stored_sent()

    def on_head_limit(self) -> None:
        """Fail, because there is no response head in time."""
        self._stop_limits()
        if self.upstream is None:  # it is connecting
            if not self._is_clients_limit:
                self.server.note_failure(self)
            self._exchange.on_attempt_failed(ConnectTimeoutError(CONNECT_TIMEOUT))
        else:
            self._exchange.on_attempt_failed(UpstreamTimeoutError(RESPONSE_TIMEOUT))

    def on_total_limit(self) -> None:
        """Fail, or cut the response, because it is not complete in time."""
        self._total_limit = None
        if self.response is None:
            self.on_head_limit()
        else:
            self._exchange.on_late(ATTEMPT_TIMEOUT)

    def _stop_head_limit(self) -> None:
        if self._head_limit is not None:
            self._head_limit.end()
            self._head_limit = None

    def _stop_limits(self) -> None:
        self._stop_head_limit()
        if self._total_limit is not None:
            self._total_limit.end()
            self._total_limit = None

    # --- called by the upstream stream (see ResponseReceiver)

    @property
    def has_request_left(self) -> bool:
        """Whether part of the request's body has not arrived yet."""
        exchange = self._exchange
        return exchange.request_left != 0 or exchange.has_body_left

    def describe_delivery(self) -> tuple[str, str]:
        """Return the key of the service that the request goes to, and the client's address."""
        return self._exchange.find_destination(), self._exchange.client.address

    def note_path(self, path: ConnectionPath) -> None:
        """Note how the connection was opened."""
        self.path = path

    def count_ejection(self) -> None:
        """Count that the server was set aside."""
        self._exchange.count_ejection()

    def on_connected(self, upstream: UpstreamStream) -> None:
        """Send the request over the new connection of this attempt."""
        self._send(upstream)

    def on_connect_failed(self, error: ExchangeError) -> None:
        """Continue with another server if this one could not be tried; otherwise report the failure."""
        exchange = self._exchange
        if isinstance(error, ServerNotTriedError) and len(self._passed_over) < PASSED_OVER_LIMIT:
            self._passed_over += (self.server,)
            other = None if exchange.is_finished else exchange.pick_other(self._passed_over)
            if other is not None:
                self.server = other
                self.begin()
                return
        exchange.on_attempt_failed(error)

    def on_closed(self, error: ExchangeError, *, is_stale: bool) -> None:
        """Retry the request over a new connection if that is safe; otherwise report the failure.

        It is safe for an idempotent request on a stale connection if none of its body was sent (RFC 9112 section
        9.3.1). It is also safe if the client still waits for a 100: without its body the request can have had no
        effect.
        """
        self.upstream = None
        exchange = self._exchange
        is_harmless = exchange.head.method in IDEMPOTENT or exchange.is_expecting
        if is_stale and is_harmless and not self._is_resent and not self.has_sent_body and not exchange.is_finished:
            self._is_resent = True
            self._connect(is_fresh=True)
        else:
            exchange.on_attempt_failed(error)

    def on_refused(self, error: ExchangeError, body: bytes | None) -> None:
        """Send the request again, whatever its method is: the server has not processed it.

        If the server's node judges requests, it says so about its server, and another server is preferred.
        """
        self.upstream = None
        exchange = self._exchange
        if body is None or exchange.is_finished or self._refusals >= REFUSAL_LIMIT:
            exchange.on_attempt_failed(error)
            return
        self._refusals += 1
        self.has_sent_body = False
        if body:
            exchange.repeat_body(body)
        if self.server.is_divided and self.path is not None and self.path.kind == ENCRYPTED:
            self._passed_over += (self.server,)
            self.server = exchange.pick_other(self._passed_over) or self.server
        self.begin()

    def on_broken(self, error: ExchangeError) -> None:
        """Report a connection that received bytes that are not a valid response."""
        self.upstream = None
        self._exchange.on_attempt_failed(error)

    def on_informational(self, response: ResponseHead) -> None:
        """Forward a 1xx response."""
        self._exchange.on_informational(response)

    def on_switching(self, upstream: UpstreamStream, response: ResponseHead, rest: bytes) -> None:
        """Handle a 101 and the bytes after it. Raises UpstreamProtocolError."""
        self._stop_limits()
        self._exchange.on_switching(upstream, response, rest)

    def on_response_head(self, response: ResponseHead, *, is_whole: bool) -> Forwarding:
        """Handle the head of the final response."""
        if self._head_limit is not None:
            self._stop_head_limit()
        self.response = response
        return self._exchange.on_response_head(response, is_whole=is_whole)

    def start_response(self, body: bytes) -> None:
        """Send the response's head and the first bytes of its body to the client."""
        response = self.response
        assert response is not None  # noqa: S101 - on_response_head() set it
        self._exchange.start_response(response, body)

    def count_content(self, size: int) -> None:
        """Count bytes of the response's body that are forwarded, without framing."""
        self._exchange.count_content(size)

    def on_lost(self) -> None:
        """Report that the connection ended in the middle of the response."""
        self._stop_limits()
        self.upstream = None
        response = self.response
        assert response is not None  # noqa: S101 - on_response_head() set it
        self._exchange.on_lost(response)

    def on_response_complete(self) -> None:
        """End successfully."""
        if self._total_limit is not None:
            self._stop_limits()
        self.upstream = None
        self._exchange.on_response_complete()

    def abort(self, code: int = INTERNAL_ERROR) -> None:
        """Abort the exchange in the middle of a response."""
        self._exchange.abort(code)
