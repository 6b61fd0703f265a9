"""One stream of a server's HTTP/2 connection: sends one request, and receives its response.

Implements `UpstreamStream` (upstreams/upstream_stream.py) over a stream, for one attempt. Keeps the bytes of the
request's body until the response starts, up to a limit: a server that refuses a stream has not processed it, so the
request can be sent again (RFC 9113 section 8.7).
"""

from typing import Protocol, final

from maesh_core.errors import MalformedMessageError, UpstreamProtocolError
from maesh_core.proxy.http.answers import CLOSED_EARLY, REFUSED, RESET
from maesh_core.proxy.http.http2.errors import StreamError
from maesh_core.proxy.http.http2.fields import Fields
from maesh_core.proxy.http.http2.frames import CANCEL, INTERNAL_ERROR, NO_ERROR, PROTOCOL_ERROR, REFUSED_STREAM
from maesh_core.proxy.http.http2.response_fields import build_trailer_fields, read_trailers
from maesh_core.proxy.http.http2.stream import FrameSink, Http2Stream
from maesh_core.proxy.http.messages.chunked import ChunkedScanner
from maesh_core.proxy.http.messages.headers import Headers
from maesh_core.proxy.http.messages.request_head import CHUNKED, STREAMED, RequestHead
from maesh_core.proxy.http.messages.response_head import ResponseHead
from maesh_core.proxy.http.transports import PENDING_LIMIT_BYTES, ReleasedTransport
from maesh_core.proxy.http.upstreams.upstream_stream import (
    DISCARDED,
    INFORMATIONAL_LIMIT,
    ResponseReceiver,
    UpstreamStream,
)
from maesh_core.proxy.transport.path_counts import ConnectionPath


class ServerLink(Protocol):
    """What a stream uses of its connection besides frames (multiplexed_upstream.py)."""

    __slots__ = ()

    path: ConnectionPath | None
    """How the connection was opened, if its server's services have encryption."""

    @property
    def is_reused(self) -> bool:
        """Whether a stream of the connection has been answered."""

    def build_request(self, head: RequestHead, changed: Headers | None, forwarded: bytes) -> Fields:
        """Build a request's header list."""

    def read_response(self, fields: Fields, *, is_head_request: bool, has_body: bool) -> ResponseHead:
        """Parse a response's header list. Raises UpstreamProtocolError."""

    def note_answer(self) -> None:
        """Record that the server has answered, so that it is not set aside any more."""

    def note_failure(self, receiver: ResponseReceiver) -> None:
        """Set the server aside for later requests."""

    def describe_loss(self) -> str:
        """Describe why requests without a response have failed with the connection."""

    def note_cancel(self) -> None:
        """Consider whether the server is still alive: a request is cancelled before its response is complete."""

    def uncount_stream(self) -> None:
        """Count one stream less."""


@final
class UpstreamSideStream(Http2Stream, UpstreamStream):
    """A request to a server, and its response."""

    __slots__ = (
        "_informational",
        "_is_counted",
        "_left",
        "_link",
        "_received",
        "_receiver",
        "_request_left",
        "_response",
        "_scanner",
        "_stored",
        "_stored_bytes",
    )

    def __init__(self, connection: FrameSink, link: ServerLink, stream_id: int, send_window: int) -> None:
        super().__init__(connection, stream_id, send_window)
        self._link = link
        self._receiver: ResponseReceiver | None = None
        self._response: ResponseHead | None = None
        self._scanner: ChunkedScanner | None = None
        self._request_left = 0
        self._informational = 0
        self._left = -1
        self._received = 0
        self._is_counted = True
        self._stored: bytearray | None = None
        self._stored_bytes = 0

    # --- the request (see UpstreamStream)

    def send_request(
        self,
        receiver: ResponseReceiver,
        head: RequestHead,
        changed: Headers | None,
        forwarded: bytes,
        body: bytes | bytearray,
    ) -> None:
        """Send a request, and report the response to `receiver`; see UpstreamStream."""
        self._receiver = receiver
        self._request_left = head.body
        path = self._link.path
        if path is not None:
            receiver.note_path(path)
        self.send_headers(self._link.build_request(head, changed, forwarded), head.never_indexed)
        if head.body == 0:
            self.send_end()
            return
        if head.body == CHUNKED:
            self._scanner = ChunkedScanner()
        if body:
            self.write(bytes(body))

    def write(self, data: bytes) -> None:
        """Send bytes of the request's body, in the form that the request's head declares."""
        if self._response is None and self._stored_bytes <= PENDING_LIMIT_BYTES:
            if self._stored is None:
                self._stored = bytearray()
            self._stored += data
            self._stored_bytes += len(data)
        scanner = self._scanner
        if scanner is not None:
            self._write_chunks(scanner, data)
        elif self._request_left == STREAMED:
            self.send_data(data)
        else:
            self._request_left -= len(data)
            self.send_data(data)
            if self._request_left == 0:
                self.send_end()

    def _write_chunks(self, scanner: ChunkedScanner, data: bytes) -> None:
        """Send the content of chunks; the exchange has checked them already."""
        payload: list[bytes] = []
        at = 0
        while at < len(data) and not scanner.is_complete:
            at = scanner.scan(data, payload, start=at)
        for piece in payload:
            self.send_data(piece)
        if scanner.is_complete:
            trailers = scanner.trailers
            self.send_end(build_trailer_fields(trailers) if trailers else ())

    def end_body(self, trailers: bytes) -> None:
        """End the request's body, whose head declares it as streamed."""
        self.send_end(build_trailer_fields(trailers) if trailers else ())

    def abandon(self, code: int = CANCEL) -> None:
        """Cancel the stream: its exchange has ended."""
        self._receiver = None
        self._uncount()
        if not (self.is_closed_locally and self.has_ended_remotely):
            self._link.note_cancel()
            self.reset(code)

    def pause_reading(self) -> None:
        """Give the server no more credit: the client is slower."""
        self.is_credit_held = True

    def resume_reading(self) -> None:
        """Give the server credit for what was forwarded."""
        self.is_credit_held = False
        self.return_credit()

    def release(self, held: bytes) -> ReleasedTransport:
        """Refuse: the transport belongs to all streams, and HTTP/2 has no 101."""
        raise NotImplementedError

    # --- called by the connection

    def on_end_sent(self) -> None:
        """Do nothing: the response follows."""

    def on_headers(self, fields: Fields) -> None:
        """Handle the head of a response, or its trailers. Raises StreamError."""
        receiver = self._receiver
        if receiver is None:
            return
        if self._response is not None:
            self._receive_trailers(receiver, fields)
            return
        try:
            self._receive_head(receiver, fields)
        except UpstreamProtocolError as error:
            self._break(error)

    def _receive_head(self, receiver: ResponseReceiver, fields: Fields) -> None:
        has_body = not self.has_ended_remotely
        response = self._link.read_response(fields, is_head_request=receiver.is_head_request, has_body=has_body)
        self._link.note_answer()
        if response.status < 200:
            self._informational += 1
            if self._informational > INFORMATIONAL_LIMIT:
                raise UpstreamProtocolError("the upstream sent too many informational responses")
            receiver.on_informational(response)
            return
        self._response = response
        self._stored = None
        self._left = 0 if has_body and response.left == 0 else response.declared_length
        if receiver.on_response_head(response, is_whole=False) is DISCARDED:
            return
        receiver.start_response(b"")
        if self._receiver is not receiver:
            return
        if self.has_ended_remotely:
            self._complete(receiver, b"")
        else:
            receiver.client.on_progress()

    def _receive_trailers(self, receiver: ResponseReceiver, fields: Fields) -> None:
        if not self.has_ended_remotely or (self._left >= 0 and self._received != self._left):
            raise StreamError(PROTOCOL_ERROR, "malformed trailers")
        try:
            trailers = read_trailers(fields)
        except MalformedMessageError as error:
            raise StreamError(PROTOCOL_ERROR, str(error)) from error
        self._complete(receiver, trailers)

    def on_data(self, data: bytes) -> None:
        """Forward data of the response's body. Raises StreamError."""
        receiver = self._receiver
        if receiver is None:
            return
        if self._response is None:
            raise StreamError(PROTOCOL_ERROR, "data before a response")
        self._received += len(data)
        left = self._left
        if left >= 0 and (self._received > left or (self.has_ended_remotely and self._received != left)):
            raise StreamError(PROTOCOL_ERROR, "a body of another length than declared")
        client = receiver.client
        if data:
            receiver.count_content(len(data))
            client.write_content(data)
        if self.has_ended_remotely:
            self._complete(receiver, b"")
        elif self._receiver is receiver:
            client.on_progress()

    def _complete(self, receiver: ResponseReceiver, trailers: bytes) -> None:
        self._receiver = None
        self._uncount()
        if not self.is_closed_locally:  # the server has answered early: RFC 9113 section 8.1
            self.reset(CANCEL)
        receiver.client.end_content(trailers)
        receiver.on_response_complete()

    def on_reset(self, code: int) -> None:
        """Report a stream that the server, or the mesh because of the server's error, has reset."""
        receiver, self._receiver = self._receiver, None
        self._uncount()
        if receiver is None:
            return
        if self._response is not None:  # a partial response is neither complete nor unprocessed
            receiver.abort(INTERNAL_ERROR if code in (NO_ERROR, REFUSED_STREAM) else code)
        elif code == REFUSED_STREAM:
            receiver.on_refused(UpstreamProtocolError(REFUSED), self._take_stored())
        elif code == NO_ERROR and not self.has_ended_remotely:
            receiver.on_broken(UpstreamProtocolError(CLOSED_EARLY))
        else:
            receiver.on_broken(UpstreamProtocolError(RESET))

    def on_unprocessed(self) -> None:
        """Report that the server will not process this stream: its number is above that of a GOAWAY."""
        receiver, self._receiver = self._receiver, None
        self._uncount()
        self.close_quietly()
        if receiver is not None and self._response is None:
            receiver.on_refused(UpstreamProtocolError(REFUSED), self._take_stored())
        elif receiver is not None:
            receiver.on_lost()

    def on_connection_lost(self) -> None:
        """Report the end of the connection."""
        receiver, self._receiver = self._receiver, None
        self._uncount()
        if receiver is None:
            return
        if self._response is not None:
            receiver.on_lost()
            return
        is_stale = self._link.is_reused and not self._informational
        if not is_stale:
            self._link.note_failure(receiver)
        receiver.on_closed(UpstreamProtocolError(self._link.describe_loss()), is_stale=is_stale)

    def on_write_paused(self) -> None:
        """Pause reading the client: the server is slower."""
        if self._receiver is not None:
            self._receiver.client.pause_reading()

    def on_write_resumed(self) -> None:
        """Resume reading the client."""
        if self._receiver is not None:
            self._receiver.client.resume_reading()

    def _break(self, error: UpstreamProtocolError) -> None:
        receiver, self._receiver = self._receiver, None
        self._uncount()
        self.reset(PROTOCOL_ERROR)
        if receiver is not None:
            receiver.on_broken(error)

    def _take_stored(self) -> bytes | None:
        """Return the bytes of the body that were sent; None if there were too many to keep."""
        if self._stored_bytes > PENDING_LIMIT_BYTES:
            return None
        return bytes(self._stored) if self._stored is not None else b""

    def _uncount(self) -> None:
        if self._is_counted:
            self._is_counted = False
            self._link.uncount_stream()
