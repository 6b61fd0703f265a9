"""What an upstream connection needs of the exchange that it belongs to for a while, and of the client behind it.

Declares, and does nothing: the exchange, the upgrade and the doubles of tests implement it.
"""

from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

from maesh_core.errors import ExchangeError
from maesh_core.proxy.http.messages.response_head import ResponseHead

if TYPE_CHECKING:
    from maesh_core.proxy.http.exchanges.exchange import Client
    from maesh_core.proxy.http.upstreams.connection_pool import HttpServer
    from maesh_core.proxy.http.upstreams.upstream_connection import UpstreamConnection


class Passing(Enum):
    """What becomes of a response whose head has been read."""

    AS_IT_CAME = 1
    """All that came of it goes to the client, byte for byte, and is all there is."""
    RENDERED = 2
    """`render_response_head` says what goes to the client before the body."""
    GIVEN_UP = 3
    """It is no longer wanted; the exchange has let go of the connection."""


AS_IT_CAME: Final = Passing.AS_IT_CAME  # reading a member off its class takes 0.1 us
RENDERED: Final = Passing.RENDERED
GIVEN_UP: Final = Passing.GIVEN_UP


class ClientSide(Protocol):
    """The client's connection, as an upstream's sees it."""

    __slots__ = ()

    def write(self, data: bytes) -> None:
        """Send bytes of a response."""

    def on_progress(self) -> None:
        """Wait anew: bytes of the response have passed."""

    def pause_reading(self) -> None:
        """Take no more of the request."""

    def resume_reading(self) -> None:
        """Take more of the request."""


class Owner(Protocol):
    """The exchange that a connection belongs to for a while."""

    __slots__ = ()

    is_head_request: bool
    """Whether the response has no body, whatever its head says."""
    request_left: int
    """What has not come yet of the request's body."""

    connection: "Client"
    """Where the response goes."""

    @property
    def is_unchunked(self) -> bool:
        """Whether the client takes the content of chunks alone."""

    def count_ejection(self) -> None:
        """Count that its server was set aside."""

    def on_connected(self, upstream: "UpstreamConnection") -> None:
        """Go on over a connection that was made for it."""

    def on_connect_failed(self, error: ExchangeError) -> None:
        """Go on from a server that could not be connected to."""

    def on_upstream_closed(self, server: "HttpServer", error: ExchangeError, *, is_stale: bool) -> None:
        """Go on from a connection that ended before a response head."""

    def on_upstream_broken(self, error: ExchangeError) -> None:
        """Go on from a connection that brought what is no response."""

    def on_informational(self, response: ResponseHead) -> None:
        """Take a 1xx."""

    def on_switching(self, upstream: "UpstreamConnection", response: ResponseHead, rest: bytes) -> None:
        """Take a 101 and what came behind it. Raises UpstreamProtocolError."""

    def on_response_head(self, response: ResponseHead, *, is_whole: bool) -> Passing:
        """Take the head of the final response; `is_whole` says that its body came with it, and nothing behind it."""

    def render_response_head(self) -> bytes:
        """Render the head of the response as the client must have it."""

    def on_response_complete(self) -> None:
        """End well: the whole response is with the client's transport."""

    def cut(self) -> None:
        """End in the middle of a response."""
