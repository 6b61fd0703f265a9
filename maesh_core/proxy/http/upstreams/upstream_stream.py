"""The seam between an attempt and the upstream's side of it.

Declares protocols and does nothing. An HTTP/1.1 connection (upstream_connection.py) implements `UpstreamStream` for the
one request that it carries at a time. It calls `ResponseReceiver`, which an attempt (exchanges/attempt.py) implements.
`ClientSide` is the receiver's client as the upstream's side sees it.
"""

from enum import Enum
from typing import Final, Protocol

from maesh_core.errors import ExchangeError
from maesh_core.proxy.http.exchanges.tunnel import Released
from maesh_core.proxy.http.messages.headers import Headers
from maesh_core.proxy.http.messages.request_head import RequestHead
from maesh_core.proxy.http.messages.response_head import ResponseHead


class Passing(Enum):
    """How a response continues after its head was read."""

    AS_IT_CAME = 1
    """Its bytes go to the client unchanged, and they are the whole response."""
    RENDERED = 2
    """`ResponseReceiver.start_response` renders the head for the client."""
    GIVEN_UP = 3
    """Nobody wants it; the receiver has abandoned the connection."""


AS_IT_CAME: Final = Passing.AS_IT_CAME  # reading a member off its class takes 0.1 us
RENDERED: Final = Passing.RENDERED
GIVEN_UP: Final = Passing.GIVEN_UP


class ClientSide(Protocol):
    """The client that waits for the response."""

    __slots__ = ()

    @property
    def is_unchunked(self) -> bool:
        """Whether the client needs the content of a chunked body without HTTP/1.1's chunk framing."""

    def write(self, data: bytes) -> None:
        """Send bytes of the response's body; of the whole response where it passes as it came."""

    def on_progress(self) -> None:
        """Restart the wait: bytes of the response have passed."""

    def pause_reading(self) -> None:
        """Read no more of the request: the upstream is slower."""

    def resume_reading(self) -> None:
        """Read the request again."""


class UpstreamStream(Protocol):
    """Where one request is sent, and its response comes from."""

    __slots__ = ()

    is_write_paused: bool
    """Whether the upstream is slower than the client now."""

    @property
    def unsent_bytes(self) -> int:
        """What was written and the server has not taken."""

    def send_request(
        self,
        receiver: "ResponseReceiver",
        head: RequestHead,
        changed: Headers | None,
        forwarded: bytes,
        body: bytes | bytearray,
    ) -> None:
        """Send a request, and bring the response to `receiver`.

        `changed` are the header fields where a middleware has changed them. `forwarded` are the rendered forwarded
        fields, with the empty line behind them. `body` is what has come of the body.
        """

    def write(self, data: bytes) -> None:
        """Send bytes of the request's body."""

    def abandon(self) -> None:
        """Close at once: the exchange has ended without this response."""

    def pause_reading(self) -> None:
        """Take no more of the response: the client is slower."""

    def resume_reading(self) -> None:
        """Take more of the response."""

    def release(self, held: bytes) -> Released:
        """Hand over the transport for good, with what was read of it and is not used."""


class ResponseReceiver(Protocol):
    """What receives the connection and the response that it asked for."""

    __slots__ = ()

    is_head_request: bool
    """Whether the response has no body, whatever its head says."""

    client: ClientSide

    @property
    def has_request_left(self) -> bool:
        """Whether a part of the request's body has not come yet."""

    def count_ejection(self) -> None:
        """Count that the server was set aside."""

    def on_connected(self, upstream: UpstreamStream) -> None:
        """Continue over a connection that was made for this receiver."""

    def on_connect_failed(self, error: ExchangeError) -> None:
        """Continue after the server could not be connected to."""

    def on_closed(self, error: ExchangeError, *, is_stale: bool) -> None:
        """Continue after the connection ended before a response head.

        A stale connection came from the pool and brought nothing: the server may have closed it before it received
        the request.
        """

    def on_broken(self, error: ExchangeError) -> None:
        """Continue after the connection brought something that is not a response."""

    def on_informational(self, response: ResponseHead) -> None:
        """Receive a 1xx response."""

    def on_switching(self, upstream: UpstreamStream, response: ResponseHead, rest: bytes) -> None:
        """Receive a 101 and the bytes behind it. Raises UpstreamProtocolError."""

    def on_response_head(self, response: ResponseHead, *, is_whole: bool) -> Passing:
        """Receive the head of the final response.

        `is_whole` says that exactly the bytes of its body came with it.
        """

    def start_response(self, body: bytes) -> None:
        """Send the response's head to the client, and the first bytes of the body with it."""

    def on_response_complete(self) -> None:
        """End the exchange: the client's transport has the whole response."""

    def cut(self) -> None:
        """End the exchange in the middle of a response."""
