"""One stream of a client's HTTP/2 connection: the client's side of one exchange.

Implements `ClientStream` (exchanges/client_stream.py) over a stream. Takes the request from frames, and sends the
response as frames. If the response is complete before the request, the stream is reset without an error (RFC 9113
section 8.1).
"""

from typing import Final, final

from maesh_core.errors import ClientProtocolError, MalformedMessageError
from maesh_core.plugin_system.interfaces import Response
from maesh_core.proxy.callers import Caller
from maesh_core.proxy.http.answers import BODY_TOO_LARGE, UNREACHED, build_answer, render_answer
from maesh_core.proxy.http.environment import Environment
from maesh_core.proxy.http.exchanges.client_stream import ClientStream
from maesh_core.proxy.http.exchanges.exchange import Exchange
from maesh_core.proxy.http.exchanges.opening import open_exchange
from maesh_core.proxy.http.grpc import build_answer_fields
from maesh_core.proxy.http.http2.errors import StreamError
from maesh_core.proxy.http.http2.fields import Fields
from maesh_core.proxy.http.http2.frames import CANCEL, INTERNAL_ERROR, NO_ERROR, PROTOCOL_ERROR, REFUSED_STREAM
from maesh_core.proxy.http.http2.response_fields import build_response_fields, build_trailer_fields, read_trailers
from maesh_core.proxy.http.http2.stream import FrameSink, Http2Stream
from maesh_core.proxy.http.messages.forwarding import ForwardedFields
from maesh_core.proxy.http.messages.headers import Headers
from maesh_core.proxy.http.messages.request_head import RequestHead
from maesh_core.proxy.http.messages.response_head import ResponseHead
from maesh_core.proxy.http.messages.syntax import HEAD_END
from maesh_core.proxy.http.routes import Route
from maesh_core.proxy.http.routing_table import CurrentTable
from maesh_core.proxy.http.transports import ReleasedTransport
from maesh_core.proxy.http.upstreams.upstream_stream import UpstreamStream

_NEVER: Final = float("inf")


@final
class ClientSideStream(Http2Stream, ClientStream):
    """A request of a client, and its response."""

    __slots__ = (
        "_current",
        "_left",
        "_received",
        "_unsent_before",
        "address",
        "caller",
        "deadline",
        "entrypoint",
        "environment",
        "exchange",
        "forwarded",
        "has_ended",
        "is_read_paused",
    )

    def __init__(
        self,
        connection: FrameSink,
        stream_id: int,
        send_window: int,
        environment: Environment,
        current: CurrentTable,
        caller: Caller,
        entrypoint: int,
        forwarded: ForwardedFields,
    ) -> None:
        super().__init__(connection, stream_id, send_window)
        self.environment = environment
        self._current = current
        self.caller = caller
        self.address = caller.address
        self.entrypoint = entrypoint
        self.forwarded = forwarded
        self.deadline = _NEVER
        self.has_ended = False
        self.is_read_paused = False
        self.exchange: Exchange | None = None
        self._left = -1
        self._received = 0
        self._unsent_before = 0

    # --- the request

    def start(self, request: RequestHead, now: float) -> None:
        """Start the exchange of a request."""
        route = self._current.table.find(self.entrypoint, request.host)
        if route is None:
            route = self._current.find_plain(self.entrypoint, request.host, self.address)
        exchange = self.exchange = open_exchange(self, route, request, now)
        self.caller.entrypoint_counter.requests += 1
        if exchange.request_left:
            self._left = request.declared_length
        exchange.start()

    def refuse(self, error: ClientProtocolError, *, is_grpc: bool) -> None:
        """Answer a header list that is not a request that the mesh accepts."""
        self.environment.refuse(self.address, self.entrypoint, error.status, str(error), "HTTP/2")
        if is_grpc:
            self.send_end(build_answer_fields(build_answer(error)))
        else:
            self._send_answer(build_answer(error), is_head_request=False)
        self._finish()

    def on_data(self, data: bytes) -> None:
        """Pass on data of the request's body. Raises StreamError."""
        exchange = self.exchange
        self._received += len(data)
        if self._left >= 0 and (
            self._received > self._left or (self.has_ended_remotely and self._received != self._left)
        ):
            raise StreamError(PROTOCOL_ERROR, "a body of another length than declared")
        if exchange is None:
            return
        try:
            if exchange.is_too_large(self._received):
                raise ClientProtocolError(BODY_TOO_LARGE, 413)
            if data:
                exchange.receive_body(data)
        except ClientProtocolError as error:
            exchange.fail(error)
        if self.exchange is not exchange:
            return
        if self.has_ended_remotely:
            exchange.end_body(b"")
        if exchange.is_finished:  # mypyc would take for granted that self.exchange is unchanged
            return
        if exchange.upstream is not None:
            self.wait_for_exchange()
        elif exchange.is_body_held_up:
            self.pause_reading()

    def on_headers(self, fields: Fields) -> None:
        """Pass on the request's trailers. Raises StreamError."""
        if not self.has_ended_remotely:
            raise StreamError(PROTOCOL_ERROR, "a second header list")
        if self._left >= 0 and self._received != self._left:
            raise StreamError(PROTOCOL_ERROR, "a body of another length than declared")
        try:
            trailers = read_trailers(fields)
        except MalformedMessageError as error:
            raise StreamError(PROTOCOL_ERROR, str(error)) from error
        if self.exchange is not None:
            self.exchange.end_body(trailers)
            self.wait_for_exchange()

    def on_reset(self, code: int) -> None:
        """End the exchange: the client does not want the response any more, or has broken the stream."""
        self._end_exchange()

    def on_connection_lost(self) -> None:
        """End the exchange."""
        self.has_ended = True
        self._end_exchange()

    def _end_exchange(self) -> None:
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.on_client_gone(self.reset_code)

    # --- the response (see ClientStream)

    @property
    def is_unchunked(self) -> bool:
        """HTTP/2 has no chunks."""
        return True

    def can_forward_unchanged(self, response: ResponseHead) -> bool:
        """Return False: frames differ from the bytes of an HTTP/1.1 response."""
        return False

    def start_response(self, response: ResponseHead, changed: Headers | None, body: bytes) -> None:
        """Send a response's head and the first bytes of its body."""
        if changed is None:
            text = response.outgoing
        elif changed.is_split:
            text = b"".join((response.status_line, changed.text, response.framing))
        else:
            text = response.outgoing + changed.added
        self.send_headers(build_response_fields(text), response.never_indexed)
        if body:
            self.send_data(body)

    def write_informational(self, response: ResponseHead) -> None:
        """Send a 1xx response."""
        self.send_headers(build_response_fields(response.outgoing))

    def write_answer(self, response: Response) -> None:
        """Send a response of the mesh. Raises ValueError, TypeError or AttributeError if it is not valid."""
        exchange = self.exchange
        if exchange is not None and _is_for_sender(exchange, response):
            self.reset(INTERNAL_ERROR if exchange.was_sent else REFUSED_STREAM)
        elif exchange is not None and exchange.head.is_grpc:
            self.send_end(build_answer_fields(response))
        else:
            self._send_answer(response, is_head_request=exchange is not None and exchange.is_head_request)

    def _send_answer(self, response: Response, *, is_head_request: bool) -> None:
        text = render_answer(response, connection=b"", is_head_request=is_head_request)
        head, _, body = text.partition(HEAD_END)
        self.send_headers(build_response_fields(head + b"\r\n"))
        self.send_data(body)

    def stop_reuse(self) -> None:
        """Do nothing: what follows on the connection belongs to other streams."""

    def write(self, data: bytes) -> None:
        """Send bytes of the response's body."""
        self.send_data(data)

    def write_content(self, data: bytes) -> None:
        """Send bytes of the response's body."""
        self.send_data(data)

    def end_content(self, trailers: bytes) -> None:
        """End the response's body, with trailers."""
        exchange = self.exchange
        if exchange is not None and exchange.head.is_grpc:
            exchange.on_trailers(trailers)
        self.send_end(build_trailer_fields(trailers) if trailers else ())

    def on_exchange_finished(self) -> None:
        """End the stream once everything is sent."""
        self.exchange = None
        self._finish()

    def _finish(self) -> None:
        self.send_end()
        if self.unsent_bytes:
            self.is_credit_held = True
            self._wait_for_reader(self.environment.settings.body_timeout)

    def on_end_sent(self) -> None:
        """Reset the stream without an error: the rest of the request is not needed (RFC 9113 section 8.1)."""
        self.reset(NO_ERROR)
        self.connection.note_finished()

    def abort(self, code: int = INTERNAL_ERROR) -> None:
        """Reset the stream, so that the client cannot mistake a partial response for a complete one."""
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.on_client_gone()
        if not self.is_closed_locally:
            self.reset(code)

    def release(self) -> ReleasedTransport:
        """Refuse: the transport belongs to all streams. HTTP/2 requests offer no upgrade."""
        raise NotImplementedError

    # --- waiting (see ClientStream)

    def find_route(self, host: bytes) -> Route | None:
        """Return the route of a host in the current routing table."""
        return self._current.find(self.entrypoint, host, self.address)

    def find_namespace(self) -> str:
        """Return the namespace of the client's pod; empty if it is unknown."""
        return self._current.namespaces.get(self.address, "")

    def wait(self, seconds: float | None) -> None:
        """Set the deadline of the current wait; None means that something else limits it."""
        if seconds is None:
            self.deadline = _NEVER
            return
        self.deadline = deadline = self.environment.clock.now + seconds
        if deadline < self.connection.deadline:
            self.connection.deadline = deadline

    def wait_for_exchange(self) -> None:
        """Wait for what comes next: the rest of the request, the response's head, or the rest of the response."""
        if self.exchange is not None:
            self.wait(self.exchange.wait_s)

    def on_progress(self) -> None:
        """Restart the wait: bytes of the response were forwarded."""
        settings = self.environment.settings
        self.wait(settings.body_timeout if self.is_write_paused else settings.upstream_body_timeout)

    def _wait_for_reader(self, seconds: float) -> None:
        self._unsent_before = self._count_unsent()
        self.wait(seconds)

    def _count_unsent(self) -> int:
        upstream = self.exchange.upstream if self.exchange is not None else None
        return self.unsent_bytes + (upstream.unsent_bytes if upstream is not None else 0)

    def on_deadline(self) -> None:
        """End a wait that took too long, unless the peer is reading slowly but makes progress."""
        self.wait(None)
        settings = self.environment.settings
        if self._count_unsent() < self._unsent_before and (self.is_write_paused or self.is_read_paused):
            is_client_slow = self.is_write_paused
            self._wait_for_reader(settings.body_timeout if is_client_slow else settings.upstream_body_timeout)
        elif self.exchange is not None:
            self.exchange.on_timeout()
        elif self.unsent_bytes and self._count_unsent() < self._unsent_before:
            self._wait_for_reader(settings.body_timeout)
        else:
            self.reset(CANCEL)

    # --- pauses

    def on_write_paused(self) -> None:
        """Pause reading the upstream: the client reads the response more slowly."""
        self._wait_for_reader(self.environment.settings.body_timeout)
        if self.exchange is not None and self.exchange.upstream is not None:
            self.exchange.upstream.pause_reading()

    def on_write_resumed(self) -> None:
        """Resume reading the upstream."""
        exchange = self.exchange
        if exchange is None:
            return
        if exchange.upstream is not None:
            self.wait_for_exchange()
            exchange.upstream.resume_reading()
        exchange.on_client_reads()

    def rest(self, seconds: float) -> None:
        """Read no further frame of the connection for this time: all its streams belong to one client."""
        self.connection.rest(seconds)

    def on_upstream_ready(self, upstream: UpstreamStream) -> None:
        """Resume reading, which was paused because there was no upstream."""
        if self.is_write_paused:
            upstream.pause_reading()
        self.resume_reading()

    def pause_reading(self) -> None:
        """Give the client no more credit: the upstream is slower, or not connected yet."""
        self.is_read_paused = self.is_credit_held = True
        exchange = self.exchange
        if exchange is not None and exchange.request_left and exchange.upstream is not None:
            self._wait_for_reader(self.environment.settings.upstream_body_timeout)

    def resume_reading(self) -> None:
        """Give the client credit for what was forwarded."""
        exchange = self.exchange
        if not self.is_read_paused or (exchange is not None and exchange.is_body_held_up):
            return
        self.is_read_paused = self.is_credit_held = False
        self.return_credit()
        if exchange is not None and exchange.request_left and exchange.upstream is not None:
            self.wait_for_exchange()


def _is_for_sender(exchange: Exchange, response: Response) -> bool:
    """Whether the node that has passed on a request decides what follows, since its server could not be reached."""
    return response.status in UNREACHED and exchange.route is not None and exchange.route.is_delivered
