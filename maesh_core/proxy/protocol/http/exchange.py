"""One request and its response: routed, through the middlewares, attempt by attempt, to an end.

Takes a read request head and the body's bytes from the client's connection, and response heads and bodies from an
upstream's. It never reads a socket itself, and makes a task only for an async middleware.
"""

from typing import TYPE_CHECKING, ClassVar

from maesh_core.errors import (
    ClientProtocolError,
    ExchangeError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
)
from maesh_core.hookspecs import Response
from maesh_core.proxy.protocol.http.answers import build_answer, render_answer
from maesh_core.proxy.protocol.http.chunked import ChunkedError, ChunkedScanner
from maesh_core.proxy.protocol.http.headers import Headers
from maesh_core.proxy.protocol.http.middleware_run import MiddlewareRun
from maesh_core.proxy.protocol.http.request_head import CHUNKED, ClientHeaders, RequestHead
from maesh_core.proxy.protocol.http.response_head import UNTIL_CLOSE, ResponseHead
from maesh_core.proxy.protocol.http.syntax import IDEMPOTENT
from maesh_core.proxy.protocol.http.transports import PENDING_LIMIT_BYTES

if TYPE_CHECKING:
    from maesh_core.proxy.protocol.http.client import ClientConnection
    from maesh_core.proxy.protocol.http.upstream import HttpServer, UpstreamConnection
    from maesh_core.proxy.routing.http_table import Route

ATTEMPT_LIMIT = 16
"""However often middlewares ask for another attempt."""
_UNKNOWN_HOST = Response(status=404, reason="no service of the mesh has this host")
_BODY_TOO_LARGE = "the request's body is too large"
CLIENT_GONE = 499
"""The status counted for a request whose client left first (nginx, Traefik)."""


class Exchange:
    """Implements `hookspecs.Exchange`. Attributes are grouped: request, route, attempt, response."""

    can_use_pool: ClassVar[bool] = True

    __slots__ = (
        "_connecting",
        "_pending",
        "_request_headers",
        "_response_headers",
        "_run",
        "_scanner",
        "attempts",
        "connection",
        "has_sent_body",
        "has_started_response",
        "head",
        "is_expecting",
        "is_finished",
        "is_keep_alive",
        "request_left",
        "response",
        "route",
        "started_at",
        "status",
        "tried",
        "upstream",
    )

    def __init__(self, connection: "ClientConnection", head: RequestHead, started_at: float) -> None:
        self.connection = connection
        self.started_at = started_at
        self.head = head
        self.request_left = head.body
        self.is_expecting = head.is_expecting
        self.is_keep_alive = head.is_keep_alive
        self.route: Route | None = None
        self.attempts = 0
        self.tried: tuple[HttpServer, ...] = ()
        self.upstream: UpstreamConnection | None = None
        self.has_sent_body = False
        self.response: ResponseHead | None = None
        self.status = 0
        self.has_started_response = False
        self.is_finished = False
        self._request_headers: Headers | None = None
        self._response_headers: Headers | None = None
        self._connecting: HttpServer | None = None
        self._pending: bytearray | None = None
        self._scanner: ChunkedScanner | None = None
        self._run: MiddlewareRun | None = None

    def __repr__(self) -> str:
        return (
            f"<Exchange {self.head.method!r} {self.head.host!r} attempts={self.attempts} status={self.status}"
            f" request_left={self.request_left} finished={self.is_finished}>"
        )

    @property
    def client_address(self) -> str:
        """The address of the connection's other end."""
        return self.connection.address

    @property
    def service(self) -> str:
        """The key of the service that the route leads to; empty without one."""
        return self.route.service if self.route is not None else ""

    @property
    def method(self) -> bytes:
        """As the client sent it."""
        return self.head.method

    @property
    def target(self) -> bytes:
        """Origin-form, as it goes upstream."""
        return self.head.target

    @property
    def host(self) -> bytes:
        """Lower case, without port and final dot."""
        return self.head.host

    @property
    def client_headers(self) -> ClientHeaders:
        """The fields as the client sent them; they cannot be changed."""
        return ClientHeaders(self.head)

    @property
    def request_headers(self) -> Headers:
        """The fields that go upstream; whoever asks may change them."""
        if self._request_headers is None:
            self._request_headers = self.head.build_headers()
        return self._request_headers

    @property
    def response_headers(self) -> Headers:
        """The fields of the attempt's response that go on; empty before there is one."""
        if self.response is None:
            return Headers()
        if self._response_headers is None:
            self._response_headers = self.response.build_headers()
        return self._response_headers

    # --- the request

    def start(self, route: "Route | None") -> None:
        """Send the exchange on its way; its head is read."""
        if route is None:
            self.connection.handler.count_refusal(404)
            self.answer(_UNKNOWN_HOST)
            return
        self.route = route
        if self.request_left and self._is_too_large(self.request_left):
            self.answer(build_answer(ClientProtocolError(_BODY_TOO_LARGE, 413)))
            return
        if route.balancer is None:
            self.answer(route.closed)
        elif route.chain is None:
            self.begin_attempt()
        else:
            self._run = MiddlewareRun(self, route.chain)
            self._run.admit()

    def receive_body(self, data: bytes) -> bytes:
        """Take body bytes from the client; returns those behind the body's end. Raises ClientProtocolError."""
        left = self.request_left
        self.is_expecting = False
        if left > 0:
            body, rest = data[:left], data[left:]
            self.request_left = left - len(body)
        else:
            body, rest = self._scan_body(data)
        if self.upstream is not None:
            self.has_sent_body = self.has_sent_body or bool(body)
            self.upstream.write(body)
        elif not self.is_finished:
            if self._pending is None:
                self._pending = bytearray()
            self._pending += body
        return rest

    def _scan_body(self, data: bytes) -> tuple[bytes, bytes]:
        if self._scanner is None:
            self._scanner = ChunkedScanner()
        try:
            taken = self._scanner.scan(data)
        except ChunkedError as error:
            raise ClientProtocolError(str(error)) from error
        if self._is_too_large(self._scanner.size_bytes):
            raise ClientProtocolError(_BODY_TOO_LARGE, 413)
        if self._scanner.is_complete:
            self.request_left = 0
        return data[:taken], data[taken:]

    def _is_too_large(self, size_bytes: int) -> bool:
        limit = self.connection.handler.settings.body_limit
        return bool(limit) and size_bytes > limit

    @property
    def is_holding_enough(self) -> bool:
        """Whether the client should not be read further, since there is nobody to pass its bytes to."""
        return self.upstream is None and self._pending is not None and len(self._pending) > PENDING_LIMIT_BYTES

    # --- attempts

    def begin_attempt(self) -> None:
        """Send the request to a server, over a pooled connection if there is one."""
        route = self.route
        assert route is not None  # noqa: S101 - start() saw to it
        assert route.balancer is not None  # noqa: S101 - start() saw to it
        server = route.balancer.pick(self.tried)
        if server is None:
            self.answer(Response(status=503, reason="the service has no usable server"))
            return
        self.attempts += 1
        if route.chain is not None:
            self.tried += (server,)
            self.response = self._response_headers = None
            self.status = 0
        if server.idle and self.can_use_pool:
            upstream = server.idle.pop()
            upstream.is_reused = True
            self.send(upstream)
        else:
            self._connect(server)

    def _connect(self, server: "HttpServer") -> None:
        self._connecting = server
        self.connection.wait(None)
        server.connect(self)

    def send(self, upstream: "UpstreamConnection") -> None:
        """Send head, and what has come of the body, over a connection that is ours until the exchange ends."""
        self.upstream = upstream
        head = self.head
        forwarded = self.connection.forwarded.render(head.authority, head.forwarded)
        if self._request_headers is None and self._pending is None:
            upstream.begin(self, head.passing + forwarded)
        else:
            upstream.begin(self, self._render_request(forwarded))
        connection = self.connection
        handler = connection.handler
        settings = handler.settings
        is_body_due = self.request_left and not self.is_expecting
        wait_s = settings.body_timeout if is_body_due else settings.response_timeout
        connection.deadline = handler.clock.now + wait_s  # wait_for_exchange(), at half its price
        if connection.is_read_paused or connection.is_write_paused:
            connection.on_upstream_ready(upstream)

    def _render_request(self, forwarded: bytes) -> bytes:
        head = self.head
        if self._request_headers is None:
            rendered = head.passing
        else:
            rendered = b"".join((head.render_start(), *self._request_headers, head.framing))
        if self._pending is None:
            return rendered + forwarded
        self.has_sent_body = True
        pending, self._pending = self._pending, None
        return b"".join((rendered, forwarded, pending))

    def on_connected(self, upstream: "UpstreamConnection") -> None:
        """Go on over a connection that was made for this exchange."""
        self._connecting = None
        self.send(upstream)

    def on_connect_failed(self, error: ExchangeError) -> None:
        """Go on from a server that could not be connected to."""
        self._connecting = None
        self.on_attempt_failed(error)

    def on_upstream_closed(self, server: "HttpServer", error: ExchangeError, *, is_stale: bool) -> None:
        """Go on from a connection that ended before a response head.

        A stale one came from the pool and brought nothing: the server may have closed it before the request was
        there. An idempotent request whose body is not lost is sent once more, over a new connection (RFC 9112 9.3.1),
        and so is one whose client still waits for a 100: without its body it can have had no effect.
        """
        self.upstream = None
        can_repeat = self.head.method in IDEMPOTENT or self.is_expecting
        if is_stale and can_repeat and not self.has_sent_body and not self.is_finished:
            self._connect(server)
        else:
            self.on_attempt_failed(error)

    def on_attempt_failed(self, error: ExchangeError) -> None:
        """Ask the middlewares about a failed attempt, and answer with the error if none wants another."""
        self._drop_upstream()
        if self._run is not None and self._run.wants_attempt_after(error) and self.can_repeat:
            self.begin_attempt()
        elif not self.is_finished:
            self.answer(build_answer(error))

    @property
    def can_repeat(self) -> bool:
        """Whether another attempt is possible: nothing of a body is lost, nothing was answered."""
        return not (self.has_sent_body or self.has_started_response or self.is_finished) and (
            self.attempts < ATTEMPT_LIMIT
        )

    # --- the response

    def on_informational(self, response: ResponseHead) -> None:
        """Pass on a 1xx (RFC 9110 section 15.2); after a 100 it is the client's body that is waited for."""
        if response.status == 100 and self.is_expecting:
            self.is_expecting = False
            self.connection.wait_for_exchange(self)
        if not self.head.is_http_1_0:
            self.connection.write(response.passing + b"\r\n")

    def on_response_head(self, response: ResponseHead) -> bool:
        """Take the head of the final response; False when the attempt is given up for another."""
        self.response = response
        self._response_headers = None
        self.status = response.status
        if self._run is not None:
            if self._run.wants_attempt_instead() and self.can_repeat:
                self._drop_upstream()
                self.begin_attempt()
                return False
            if self.is_finished:
                return False
        return True

    def on_switching(self, upstream: "UpstreamConnection", response: ResponseHead, rest: bytes) -> None:
        """Take a 101, which has no business here. Raises UpstreamProtocolError."""
        raise UpstreamProtocolError("the upstream wants another protocol")

    def render_response_head(self) -> bytes:
        """Render the head of the response as this client must have it; nothing can be taken back afterwards."""
        response = self.response
        assert response is not None  # noqa: S101 - on_response_head() set it
        self.has_started_response = True
        if response.left == UNTIL_CLOSE or self.request_left or (self.head.is_http_1_0 and response.left == CHUNKED):
            self.is_keep_alive = False
        connection = self.connection_field()
        framing = response.framing
        if self.head.is_http_1_0 and framing.startswith(b"Transfer-Encoding"):
            framing = b""
        elif self._response_headers is None and not (connection and response.is_plain):
            return b"".join((response.passing, connection, b"\r\n"))
        return b"".join((response.status_line, *self.response_headers, framing, connection, b"\r\n"))

    def connection_field(self) -> bytes:
        """Render what the client must know about its connection."""
        if self.connection.is_draining:
            self.is_keep_alive = False
        if not self.is_keep_alive:
            return b"Connection: close\r\n"
        return b"Connection: keep-alive\r\n" if self.head.is_http_1_0 else b""

    def takes_as_it_came(self, response: ResponseHead) -> bool:
        """Take a whole response, head and body, if nobody here has anything to say about it."""
        if self._run is not None or self.head.is_http_1_0 or self.request_left or not response.is_plain:
            return False
        if not self.is_keep_alive or self.connection.is_draining:
            return False
        self.status = response.status
        self.has_started_response = True
        return True

    def on_response_complete(self) -> None:
        """End well: the whole response is with the client's transport."""
        self.upstream = None
        self._finish(self.status)
        self.connection.on_exchange_finished(self)

    def answer(self, response: Response) -> None:
        """End with an answer of the mesh."""
        self._drop_upstream()
        if self.is_finished:
            return
        if self.request_left:
            self.is_keep_alive = False
        connection = self.connection_field()
        is_head = self.head.method == b"HEAD"
        try:
            rendered = render_answer(response, connection=connection, is_head_request=is_head)
        except (ValueError, TypeError, AttributeError):
            response = Response(status=500, reason="a middleware gave a response that may not be sent")
            rendered = render_answer(response, connection=connection, is_head_request=is_head)
        self.status = response.status
        self.has_started_response = True
        self.connection.write(rendered)
        self._finish(response.status)
        self.connection.on_exchange_finished(self)

    # --- other ends

    def fail(self, error: ExchangeError) -> None:
        """End because of a protocol error: an answer if none was begun, else a connection cut where it stands."""
        if self.has_started_response:
            self.cut()
        else:
            self.is_keep_alive = False
            self.answer(build_answer(error))

    def cut(self) -> None:
        """End in the middle of a response, so that the client cannot take it for complete."""
        self._drop_upstream()
        self._finish(self.status)
        self.connection.cut()

    def on_timeout(self) -> None:
        """End or go on after too long a wait."""
        if self.has_started_response:
            self.cut()
        elif self._run is not None and self._run.is_waiting:
            self._run.on_timeout()
        elif (
            self.request_left
            and not self.is_expecting
            and self.upstream is not None
            and not self.connection.is_read_paused
        ):
            self.fail(ClientProtocolError("the request's body did not come in time", 408))
        else:
            self.on_attempt_failed(UpstreamTimeoutError("the upstream did not answer in time"))

    def on_client_gone(self) -> None:
        """End without anybody to answer."""
        self._drop_upstream()
        self._finish(CLIENT_GONE)

    def _drop_upstream(self) -> None:
        if self._connecting is not None:
            self._connecting.forget(self)
            self._connecting = None
        if self.upstream is not None:
            upstream, self.upstream = self.upstream, None
            upstream.abandon()

    def _finish(self, status: int) -> None:
        if self.is_finished:
            return
        self.is_finished = True
        self._pending = None
        if self.route is not None:
            self.route.counters.count(status, self.connection.handler.clock_time() - self.started_at)
        if self._run is not None:
            self._run.finish()
            self._run = None
