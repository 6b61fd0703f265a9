"""The seam between an exchange and the client's side of it.

Declares a protocol and does nothing. An HTTP/1.1 connection (clients/client_connection.py) implements it for the one
request that it carries at a time. Nothing here says how messages are written on the wire.
"""

from typing import Protocol

from maesh_core.plugin_system.interfaces import Response
from maesh_core.proxy.http.environment import Environment
from maesh_core.proxy.http.exchanges.tunnel import Released
from maesh_core.proxy.http.messages.forwarding import ForwardedFields
from maesh_core.proxy.http.messages.headers import Headers
from maesh_core.proxy.http.messages.response_head import ResponseHead
from maesh_core.proxy.http.routing_table import Route
from maesh_core.proxy.http.upstreams.upstream_stream import ClientSide, UpstreamStream


class ClientStream(ClientSide, Protocol):
    """The client's side of one exchange."""

    __slots__ = ("deadline",)

    environment: Environment
    address: str
    entrypoint: int
    forwarded: ForwardedFields
    deadline: float
    has_ended: bool
    is_read_paused: bool
    is_write_paused: bool

    # --- the response

    def can_take_as_it_came(self, response: ResponseHead) -> bool:
        """Whether the client may get the bytes of a whole response as the upstream sent them."""

    def start_response(self, response: ResponseHead, changed: Headers | None, body: bytes) -> None:
        """Send a response's head, and the first bytes of the body with it.

        `changed` are its header fields where a middleware has changed them.
        """

    def write_informational(self, response: ResponseHead) -> None:
        """Send a 1xx response, unless the client's protocol has none."""

    def write_answer(self, response: Response) -> None:
        """Send a response of the mesh. Raises ValueError, TypeError or AttributeError where it may not be sent."""

    def stop_reuse(self) -> None:
        """Take no request after this one: the client's bytes cannot be trusted."""

    # --- the request

    def find_route(self, host: bytes) -> Route | None:
        """Find where a host leads now."""

    def wait(self, seconds: float | None) -> None:
        """Let the sweep end the current wait after so many seconds; None while something else limits it."""

    def wait_for_exchange(self) -> None:
        """Wait for what the exchange needs next."""

    def on_upstream_ready(self, upstream: UpstreamStream) -> None:
        """Read what was held back while there was no upstream."""

    # --- ends

    def on_exchange_finished(self) -> None:
        """Continue with the next request, or close."""

    def release(self) -> Released:
        """Hand over the transport for good."""

    def cut(self) -> None:
        """Reset the connection or stream, so that the client cannot take the response for complete."""
