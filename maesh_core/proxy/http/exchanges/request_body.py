"""The body of a request: receives its bytes from the client, and passes them to the attempt or stores them until then.

The part of an exchange (exchange.py) between the counters and the attempts. It removes no framing: the bytes of a
chunked body are passed on as they arrived, after they were checked. If a middleware may use the body, its content goes
through a flow (request_flow.py) instead, which passes on content without framing.
"""

from maesh_core.errors import ClientProtocolError
from maesh_core.proxy.http.answers import BODY_TOO_LARGE
from maesh_core.proxy.http.exchanges.client_stream import ClientStream
from maesh_core.proxy.http.exchanges.counted import CountedExchange
from maesh_core.proxy.http.exchanges.run import Run
from maesh_core.proxy.http.messages.chunked import ChunkedError, ChunkedScanner
from maesh_core.proxy.http.messages.request_head import STREAMED, RequestHead
from maesh_core.proxy.http.routes import Route
from maesh_core.proxy.http.transports import PENDING_LIMIT_BYTES


class ReceivingExchange(CountedExchange):
    """The receiving part of an exchange. `request_left` is the number of body bytes that are still to come."""

    __slots__ = (
        "_scanner",
        "has_started_response",
        "is_expecting",
        "is_finished",
        "request_left",
        "run",
        "trailers",
    )

    def __init__(self, client: ClientStream, head: RequestHead, route: Route | None, started_at: float) -> None:
        super().__init__(client, head, route, started_at)
        self.request_left = head.body
        self.is_expecting = head.is_expecting
        self.pending_body: bytearray | None = None
        self.trailers = b""
        self._scanner: ChunkedScanner | None = None
        self.run: Run | None = None
        self.has_started_response = False
        self.is_finished = False

    def receive_body(self, data: bytes) -> bytes:
        """Process body bytes from the client; return the bytes that were not used. Raises ClientProtocolError.

        If the body is incomplete, process the unused bytes in a later turn of the event loop. Otherwise they follow the
        end of the body.
        """
        left = self.request_left
        self.is_expecting = False
        flow = self.run.request_flow if self.run is not None else None
        if left > 0:
            body, rest = data[:left], data[left:]
            self.request_left = left - len(body)
            self.received_bytes += len(body)
        elif left == STREAMED:
            body, rest = data, b""
            self.received_bytes += len(body)
        else:
            body, rest = self._scan_body(data, has_framing=flow is None)
        if flow is not None:
            flow.feed(body)
            if not self.request_left:
                flow.end(self._scanner.trailers if self._scanner is not None else b"")
            return rest
        if self.run is not None:
            self.run.keep_body(body)
        self.pass_body(body)
        return rest

    def end_body(self, trailers: bytes) -> None:
        """End a streamed body; `trailers` holds its trailer lines."""
        self.request_left = 0
        self.is_expecting = False
        if self.run is not None and self.run.request_flow is not None:
            self.run.request_flow.end(trailers)
        else:
            self.pass_end(trailers)

    def pass_end(self, trailers: bytes) -> None:
        """End the body towards the server, if it is streamed."""
        self.trailers = trailers
        if self.attempt is not None and (self.rewritten or self.head).body == STREAMED:
            self.attempt.end_body()

    def pass_body(self, body: bytes) -> None:
        """Send bytes of the request's body, or store them until there is an upstream."""
        attempt = self.attempt
        if attempt is not None and attempt.upstream is not None:
            attempt.write_body(body)
        elif not self.is_finished:
            if self.pending_body is None:
                self.pending_body = bytearray()
            self.pending_body += body

    def _scan_body(self, data: bytes, *, has_framing: bool) -> tuple[bytes, bytes]:
        """Return the part of the body, or only its content, and the bytes that were not used."""
        if self._scanner is None:
            self._scanner = ChunkedScanner()
        payload: list[bytes] | None = None if has_framing else []
        try:
            taken = self._scanner.scan(data, payload)
        except ChunkedError as error:
            raise ClientProtocolError(str(error)) from error
        self.received_bytes = self._scanner.size_bytes - self._scanner.left_bytes
        if self.is_too_large(self._scanner.size_bytes):
            raise ClientProtocolError(BODY_TOO_LARGE, 413)
        if self._scanner.is_complete:
            self.request_left = 0
        return data[:taken] if payload is None else b"".join(payload), data[taken:]

    @property
    def wait_s(self) -> float:
        """Seconds to wait for what comes next: the rest of the request, the response's head, or the rest of it."""
        client = self.client
        settings = client.environment.settings
        if self.has_started_response or (self.request_left and client.is_read_paused):
            return settings.upstream_body_timeout
        if self.request_left and not self.is_expecting:
            return settings.body_timeout
        return settings.response_timeout

    @property
    def is_body_held_up(self) -> bool:
        """Whether reading the body must wait: its upstream is slower, or not connected yet, or a middleware is."""
        if self.run is not None and self.run.request_flow is not None and self.run.request_flow.is_held_up:
            return True
        return self.is_output_held_up

    @property
    def has_body_left(self) -> bool:
        """Whether part of the body was not passed on yet."""
        if self.request_left:
            return True
        run = self.run
        return run is not None and run.request_flow is not None and not run.request_flow.is_complete

    @property
    def is_output_held_up(self) -> bool:
        """Whether the upstream is slower, or not connected yet."""
        upstream = self.upstream
        if upstream is not None:
            return upstream.is_write_paused
        return self.pending_body is not None and len(self.pending_body) > PENDING_LIMIT_BYTES

    def repeat_body(self, body: bytes | bytearray) -> None:
        """Replace the stored body bytes by `body`, for another attempt."""
        self.pending_body = bytearray(body)
