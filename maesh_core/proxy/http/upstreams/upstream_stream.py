"""The interface between an attempt and its upstream connection.

Declares protocols and does nothing. An HTTP/1.1 connection (upstream_connection.py) implements `UpstreamStream` for one
request at a time, and calls `ResponseReceiver`, which an attempt implements (exchanges/attempt.py). `ClientSide` is the
part of the client that the upstream connection uses.
"""

from enum import Enum
from typing import Final, Protocol

from maesh_core.errors import ExchangeError
from maesh_core.proxy.http.http2.frames import CANCEL, INTERNAL_ERROR
from maesh_core.proxy.http.messages.headers import Headers
from maesh_core.proxy.http.messages.request_head import RequestHead
from maesh_core.proxy.http.messages.response_head import ResponseHead
from maesh_core.proxy.http.transports import ReleasedTransport
from maesh_core.proxy.transport.path_counts import ConnectionPath

INFORMATIONAL_LIMIT: Final = 16
"""1xx responses that are forwarded before a final one (RFC 9110 section 15.2). With more, the response is an error."""


class Forwarding(Enum):
    """How a response is forwarded after its head was parsed."""

    UNCHANGED = 1
    """Its bytes are a complete response, and are forwarded unchanged."""
    RENDERED = 2
    """`ResponseReceiver.start_response` renders the head for the client."""
    DISCARDED = 3
    """It is discarded; the receiver has abandoned the connection."""
    CHANGED = 4
    """It is complete, and only its head changes: `ResponseReceiver.start_response` forwards all of it."""


UNCHANGED: Final = Forwarding.UNCHANGED  # accessing a member of the class takes 0.1 us
RENDERED: Final = Forwarding.RENDERED
DISCARDED: Final = Forwarding.DISCARDED
CHANGED: Final = Forwarding.CHANGED


class ClientSide(Protocol):
    """The client that waits for the response."""

    __slots__ = ()

    @property
    def is_unchunked(self) -> bool:
        """Whether the client needs the content of a chunked body without HTTP/1.1's chunk framing."""

    def write(self, data: bytes) -> None:
        """Send bytes of the response's body, or of the whole response if it is forwarded unchanged."""

    def write_content(self, data: bytes) -> None:
        """Send bytes of a streamed response's body, in the client's framing."""

    def end_content(self, trailers: bytes) -> None:
        """End the body of a streamed response; for a client without chunks, of any. `trailers` holds trailer lines."""

    def on_progress(self) -> None:
        """Restart the wait: bytes of the response were forwarded."""

    def pause_reading(self) -> None:
        """Pause reading the request: the upstream is slower."""

    def resume_reading(self) -> None:
        """Resume reading the request."""


class UpstreamStream(Protocol):
    """Sends one request to a server, and receives its response."""

    __slots__ = ()

    is_write_paused: bool
    """Whether the upstream currently reads more slowly than the client sends."""

    @property
    def unsent_bytes(self) -> int:
        """The number of bytes that were written and not sent yet."""

    def send_request(
        self,
        receiver: "ResponseReceiver",
        head: RequestHead,
        changed: Headers | None,
        forwarded: bytes,
        body: bytes | bytearray,
    ) -> None:
        """Send a request, and report the response to `receiver`.

        `changed` holds the header fields if a middleware has changed them. `forwarded` holds the rendered forwarded
        fields and the empty line after them. `body` holds the body bytes received so far.
        """

    def write(self, data: bytes) -> None:
        """Send bytes of the request's body, in the form that its head declares."""

    def end_body(self, trailers: bytes) -> None:
        """End a streamed body; `trailers` holds its trailer lines."""

    def abandon(self, code: int = CANCEL) -> None:
        """Close at once, because the exchange ended before this response was complete.

        `code` is an error code of HTTP/2, for servers that can receive one.
        """

    def pause_reading(self) -> None:
        """Pause reading the response: the client is slower."""

    def resume_reading(self) -> None:
        """Resume reading the response."""

    def release(self, held: bytes) -> ReleasedTransport:
        """Give up the transport, and return it with the bytes that were read but not used."""


class ResponseReceiver(Protocol):
    """Receives the connection that it asked for, and the response."""

    __slots__ = ()

    is_head_request: bool
    """Whether the request's method is HEAD, so that the response has no body."""

    client: ClientSide

    @property
    def has_request_left(self) -> bool:
        """Whether part of the request's body has not arrived yet."""

    def describe_delivery(self) -> tuple[str, str]:
        """Return the key of the service that the request goes to, and the client's address."""

    def note_path(self, path: ConnectionPath) -> None:
        """Note how the connection was opened over which the request is sent, if the service has encryption."""

    def count_ejection(self) -> None:
        """Count that the server was set aside."""

    def on_connected(self, upstream: UpstreamStream) -> None:
        """Continue over a connection that was opened for this receiver."""

    def on_connect_failed(self, error: ExchangeError) -> None:
        """Handle a failed connect."""

    def on_closed(self, error: ExchangeError, *, is_stale: bool) -> None:
        """Handle the end of the connection before a response head.

        A stale connection came from the pool and received nothing: the server may have closed it before it received the
        request.
        """

    def on_refused(self, error: ExchangeError, body: bytes | None) -> None:
        """Handle a request that the server has not processed, and never will (RFC 9113 section 8.7).

        `body` holds the bytes of its body that were sent; None if they are no longer stored.
        """

    def on_broken(self, error: ExchangeError) -> None:
        """Handle a connection that received bytes that are not a valid response."""

    def on_informational(self, response: ResponseHead) -> None:
        """Handle a 1xx response."""

    def on_switching(self, upstream: UpstreamStream, response: ResponseHead, rest: bytes) -> None:
        """Handle a 101 and the bytes after it. Raises UpstreamProtocolError."""

    def on_response_head(self, response: ResponseHead, *, is_whole: bool) -> Forwarding:
        """Handle the head of the final response.

        `is_whole` means that exactly the bytes of its body arrived with it.
        """

    def start_response(self, body: bytes) -> None:
        """Send the response's head and the first bytes of its body to the client."""

    def count_content(self, size: int) -> None:
        """Count bytes of the response's body that are forwarded, without framing."""

    def on_lost(self) -> None:
        """Handle the end of the connection in the middle of a response."""

    def on_response_complete(self) -> None:
        """End the exchange: the whole response was written to the client's transport."""

    def abort(self, code: int = INTERNAL_ERROR) -> None:
        """Abort the exchange in the middle of a response; `code` is an error code of HTTP/2."""
