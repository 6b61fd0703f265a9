"""One request and its response: routed, to a server, to an end.

Takes a read request head and the body's bytes from the client's connection, and response heads and bodies from an
upstream's. It never reads a socket itself. This one has no middlewares and one attempt, and so nothing to pay for them;
chained.py and upgrade.py have what is more.
"""

from typing import Final, Protocol

from maesh_core.errors import (
    ClientProtocolError,
    ExchangeError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
)
from maesh_core.plugin_system.interfaces import Response
from maesh_core.proxy.balancing.balancer import Balancer
from maesh_core.proxy.http.environment import Environment
from maesh_core.proxy.http.exchanges.answers import build_answer, render_answer
from maesh_core.proxy.http.exchanges.owner import AS_IT_CAME, RENDERED, ClientSide, Owner, Passing
from maesh_core.proxy.http.exchanges.tunnel import Released
from maesh_core.proxy.http.messages.chunked import ChunkedError, ChunkedScanner
from maesh_core.proxy.http.messages.forwarding import ForwardedFields
from maesh_core.proxy.http.messages.headers import Headers
from maesh_core.proxy.http.messages.request_head import CHUNKED, RequestHead
from maesh_core.proxy.http.messages.response_head import UNTIL_CLOSE, ResponseHead
from maesh_core.proxy.http.messages.syntax import IDEMPOTENT
from maesh_core.proxy.http.routing_table import Route
from maesh_core.proxy.http.transports import PENDING_LIMIT_BYTES
from maesh_core.proxy.http.upstreams.connection_pool import HttpServer
from maesh_core.proxy.http.upstreams.upstream_connection import UpstreamConnection

_UNKNOWN_HOST: Final = Response(status=404, reason="no service of the mesh has this host")
_NO_SERVER: Final = Response(status=503, reason="the service has no usable server")
_UNSENDABLE: Final = Response(status=500, reason="a middleware gave a response that may not be sent")
_BODY_TOO_LARGE: Final = "the request's body is too large"
CLIENT_GONE: Final = 499
"""The status counted for a request whose client left first (nginx, Traefik)."""


class Client(ClientSide, Protocol):
    """The client's connection, as its exchange sees it."""

    __slots__ = ("deadline",)

    environment: Environment
    address: str
    entrypoint: int
    forwarded: ForwardedFields
    deadline: float
    has_ended: bool
    is_read_paused: bool
    is_write_paused: bool

    @property
    def is_draining(self) -> bool:
        """Whether this connection takes no request after the current one."""

    @property
    def is_holding(self) -> bool:
        """Whether bytes have come that are not of the current request."""

    def find_route(self, host: bytes) -> Route | None:
        """Find where a host leads now."""

    def wait(self, seconds: float | None) -> None:
        """Let the sweep end the current wait after so many seconds; None while something else limits it."""

    def wait_for_exchange(self, exchange: "Exchange") -> None:
        """Wait for what the exchange needs next."""

    def on_upstream_ready(self, upstream: UpstreamConnection) -> None:
        """Read what was held back for want of an upstream."""

    def on_exchange_finished(self, exchange: "Exchange") -> None:
        """Go on to the next request, or close."""

    def release(self) -> Released:
        """Let go of the transport for good."""

    def cut(self) -> None:
        """Reset the connection."""


class Exchange(Owner):
    """A request on its way. Attributes are grouped: request, route, upstream, response."""

    _request_headers: Headers | None = None
    """What of the request's head has been changed; nothing is where there are no middlewares."""
    is_response_awaited = False
    """Whether somebody wants to see a response's head, and may give it up: `judge_response` is asked then."""
    is_end_awaited = False
    """Whether somebody wants to hear of the end: `tell_end` is called then."""

    __slots__ = (
        "_connecting",
        "_pending",
        "_scanner",
        "connection",
        "has_sent_body",
        "has_started_response",
        "head",
        "is_expecting",
        "is_finished",
        "is_head_request",
        "is_keep_alive",
        "request_left",
        "response",
        "route",
        "started_at",
        "status",
        "upstream",
    )

    def __init__(self, connection: Client, head: RequestHead, started_at: float) -> None:
        self.connection = connection
        self.started_at = started_at
        self.head = head
        self.is_head_request = head.method == b"HEAD"
        self.request_left = head.body
        self.is_expecting = head.is_expecting
        self.is_keep_alive = head.is_keep_alive
        self.route: Route | None = None
        self.upstream: UpstreamConnection | None = None
        self.has_sent_body = False
        self.response: ResponseHead | None = None
        self.status = 0
        self.has_started_response = False
        self.is_finished = False
        self._connecting: HttpServer | None = None
        self._pending: bytearray | None = None
        self._scanner: ChunkedScanner | None = None

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.head.method!r} {self.head.host!r} status={self.status}"
            f" request_left={self.request_left} finished={self.is_finished}>"
        )

    @property
    def is_unchunked(self) -> bool:
        """Whether the client takes the content of chunks alone."""
        return self.head.is_http_1_0

    # --- the request

    def start(self, route: Route | None, body: bytes = b"") -> None:
        """Send the exchange on its way; its head is read. `body` is what came of the body with it, or a part of that.

        Where the request goes no further, `body` is not taken, and `request_left` is what it was.
        """
        if route is None:
            self.connection.environment.count_refusal(404)
            self.answer(_UNKNOWN_HOST)
            return
        self.route = route
        if self.request_left and self._is_too_large(self.request_left):
            self.answer(build_answer(ClientProtocolError(_BODY_TOO_LARGE, 413)))
        elif route.balancer is None:
            self.answer(route.closed)
        else:
            if body:
                self.receive_body(body)
            self.begin(route, route.balancer)

    def begin(self, route: Route, balancer: Balancer[HttpServer]) -> None:
        """Go on from a route that is open."""
        server = balancer.pick()
        if server is not None and server.idle:  # send_to(), without a call on the way of most requests
            self.send(server.take_idle())
        else:
            self.send_to(server)

    def receive_body(self, data: bytes) -> bytes:
        """Take body bytes from the client; returns those that are left over. Raises ClientProtocolError.

        While the body is not complete, they are for a later turn of the event loop; else they are behind its end.
        """
        left = self.request_left
        self.is_expecting = False
        if left > 0:
            body, rest = data[:left], data[left:]
            self.request_left = left - len(body)
        else:
            body, rest = self._scan_body(data)
        self.pass_body(body)
        return rest

    def pass_body(self, body: bytes) -> None:
        """Send bytes of the request's body, or hold them until there is an upstream."""
        if self.upstream is not None:
            self.has_sent_body = self.has_sent_body or bool(body)
            self.upstream.write(body)
        elif not self.is_finished:
            if self._pending is None:
                self._pending = bytearray()
            self._pending += body

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
        limit = self.connection.environment.settings.body_limit
        return bool(limit) and size_bytes > limit

    @property
    def is_body_held_up(self) -> bool:
        """Whether no more of the request's body can be taken now: its upstream is slower, or not there yet."""
        if self.upstream is not None:
            return self.upstream.is_write_paused
        return self._pending is not None and len(self._pending) > PENDING_LIMIT_BYTES

    # --- to a server

    def send_to(self, server: HttpServer | None) -> None:
        """Send the request to a server, over a pooled connection if there is one."""
        if server is None:
            self.answer(_NO_SERVER)
        elif server.idle:
            self.send(server.take_idle())
        else:
            self._connect(server)

    def _connect(self, server: HttpServer) -> None:
        self._connecting = server
        self.connection.wait(None)
        server.connect(self)

    def send(self, upstream: UpstreamConnection) -> None:
        """Send head, and what has come of the body, over a connection that is ours until the exchange ends."""
        self.upstream = upstream
        connection, head = self.connection, self.head
        forwarded = connection.forwarded.render(head.authority, head.forwarded)
        request = head.passing + forwarded if self._request_headers is None else self.render_request(forwarded)
        if self._pending is not None:
            self.has_sent_body = True
            pending, self._pending = self._pending, None
            request += pending
        upstream.begin(self, request)
        environment = connection.environment
        is_body_due = self.request_left and not self.is_expecting
        wait_s = environment.body_timeout if is_body_due else environment.response_timeout
        connection.deadline = environment.clock.now + wait_s  # wait_for_exchange(), at half its price
        if connection.is_read_paused or connection.is_write_paused:
            connection.on_upstream_ready(upstream)

    def render_request(self, forwarded: bytes) -> bytes:
        """Render the head that goes upstream where it has been changed; it ends with the forwarded fields."""
        return self.head.passing + forwarded

    def count_ejection(self) -> None:
        """Count that a server of the route was set aside."""
        if self.route is not None:
            self.route.counters.ejections += 1

    def on_connected(self, upstream: UpstreamConnection) -> None:
        """Go on over a connection that was made for this exchange."""
        self._connecting = None
        self.send(upstream)

    def on_connect_failed(self, error: ExchangeError) -> None:
        """Go on from a server that could not be connected to."""
        self._connecting = None
        self.on_attempt_failed(error)

    def on_upstream_closed(self, server: HttpServer, error: ExchangeError, *, is_stale: bool) -> None:
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

    def on_upstream_broken(self, error: ExchangeError) -> None:
        """Go on from a connection that brought what is no response."""
        self.upstream = None
        self.on_attempt_failed(error)

    def on_attempt_failed(self, error: ExchangeError) -> None:
        """Answer with the error: nothing of a response was sent."""
        self.drop_upstream()
        self.answer(build_answer(error))

    # --- the response

    def on_informational(self, response: ResponseHead) -> None:
        """Pass on a 1xx (RFC 9110 section 15.2); after a 100 it is the client's body that is waited for."""
        if response.status == 100 and self.is_expecting:
            self.is_expecting = False
            self.connection.wait_for_exchange(self)
        if not self.head.is_http_1_0:
            self.connection.write(response.passing + b"\r\n")

    def on_response_head(self, response: ResponseHead, *, is_whole: bool) -> Passing:
        """Take the head of the final response, and say what becomes of it."""
        self.response = response
        self.status = response.status
        if self.is_response_awaited and (passing := self.judge_response()) is not None:
            return passing
        has_nothing_to_say = is_whole and response.is_plain and self.is_keep_alive and not self.head.is_http_1_0
        if not has_nothing_to_say or self.request_left or self.connection.is_draining:
            return RENDERED
        self.has_started_response = True
        return AS_IT_CAME

    def judge_response(self) -> Passing | None:
        """Say what becomes of a response whose head is here; None when it goes its way."""
        return None

    def on_switching(self, upstream: UpstreamConnection, response: ResponseHead, rest: bytes) -> None:
        """Take a 101, which has no business here. Raises UpstreamProtocolError."""
        raise UpstreamProtocolError("the upstream wants another protocol")

    def render_response_head(self) -> bytes:
        """Render the head of the response as this client must have it; nothing can be taken back afterwards."""
        response = self.response
        assert response is not None  # noqa: S101 - on_response_head() set it
        self.has_started_response = True
        if response.left == UNTIL_CLOSE or self.request_left or (self.head.is_http_1_0 and response.left == CHUNKED):
            self.is_keep_alive = False
        return self.render_fields(response, self.connection_field()) + b"\r\n"

    def render_fields(self, response: ResponseHead, connection: bytes) -> bytes:
        """Render the status line and all fields; `connection` is one of them, or empty."""
        framing = self.choose_framing(response)
        if framing != response.framing:
            return b"".join((response.status_line, *response.build_headers().lines, framing, connection))
        return response.passing + connection

    def choose_framing(self, response: ResponseHead) -> bytes:
        """Choose the field that frames the body for this client, or none: HTTP/1.0 knows no chunks."""
        is_unframed = self.head.is_http_1_0 and response.framing.startswith(b"Transfer-Encoding")
        return b"" if is_unframed else response.framing

    def connection_field(self) -> bytes:
        """Render what the client must know about its connection."""
        if self.connection.is_draining:
            self.is_keep_alive = False
        if not self.is_keep_alive:
            return b"Connection: close\r\n"
        return b"Connection: keep-alive\r\n" if self.head.is_http_1_0 else b""

    def on_response_complete(self) -> None:
        """End well: the whole response is with the client's transport."""
        self.upstream = None
        self.finish(self.status)
        self.connection.on_exchange_finished(self)

    def answer(self, response: Response) -> None:
        """End with an answer of the mesh."""
        self.drop_upstream()
        if self.is_finished:
            return
        if self.request_left:
            self.is_keep_alive = False
        connection, is_head = self.connection_field(), self.is_head_request
        try:
            rendered = render_answer(response, connection=connection, is_head_request=is_head)
        except (ValueError, TypeError, AttributeError):
            response = _UNSENDABLE
            rendered = render_answer(response, connection=connection, is_head_request=is_head)
        self.status = response.status
        self.has_started_response = True
        self.connection.write(rendered)
        self.finish(response.status)
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
        self.drop_upstream()
        self.finish(self.status)
        self.connection.cut()

    def on_timeout(self) -> None:
        """End or go on after too long a wait."""
        if self.has_started_response:
            self.cut()
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
        self.drop_upstream()
        self.finish(CLIENT_GONE)

    def drop_upstream(self) -> None:
        """Let go of the connection, or of one that is being made."""
        if self._connecting is not None:
            self._connecting.forget(self)
            self._connecting = None
        if self.upstream is not None:
            upstream, self.upstream = self.upstream, None
            upstream.abandon()

    def finish(self, status: int) -> None:
        """Count the exchange, whose end has come."""
        if self.is_finished:
            return
        self.is_finished = True
        self._pending = None
        if self.route is not None:
            seconds = self.connection.environment.clock_time() - self.started_at
            self.route.counters.count(status, seconds)
        if self.is_end_awaited:
            self.tell_end()

    def tell_end(self) -> None:
        """Tell of the end, which is counted."""
