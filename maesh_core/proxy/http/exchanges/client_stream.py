"""The interface between an exchange and its client connection.

Declares a protocol and does nothing. An HTTP/1.1 connection (clients/client_connection.py) implements it for one
request at a time. Nothing here depends on how messages are encoded on the wire.
"""

from typing import Protocol

from maesh_core.plugin_system.interfaces import Response
from maesh_core.proxy.callers import Caller
from maesh_core.proxy.http.environment import Environment
from maesh_core.proxy.http.http2.frames import INTERNAL_ERROR
from maesh_core.proxy.http.messages.forwarding import ForwardedFields
from maesh_core.proxy.http.messages.headers import Headers
from maesh_core.proxy.http.messages.response_head import ResponseHead
from maesh_core.proxy.http.routes import Route
from maesh_core.proxy.http.transports import ReleasedTransport
from maesh_core.proxy.http.upstreams.upstream_stream import ClientSide, UpstreamStream


class ClientStream(ClientSide, Protocol):
    """The client's side of one exchange."""

    __slots__ = ()

    environment: Environment
    address: str
    caller: Caller
    entrypoint: int
    forwarded: ForwardedFields
    has_ended: bool
    is_read_paused: bool
    is_write_paused: bool

    # --- the response

    def can_forward_unchanged(self, response: ResponseHead) -> bool:
        """Whether the bytes of a complete response can be forwarded unchanged."""

    def start_response(self, response: ResponseHead, changed: Headers | None, body: bytes) -> None:
        """Send a response's head and the first bytes of its body.

        `changed` holds the header fields if a middleware has changed them; otherwise None.
        """

    def write_informational(self, response: ResponseHead) -> None:
        """Send a 1xx response, unless the client's protocol version has none."""

    def write_answer(self, response: Response) -> None:
        """Send a response of the mesh. Raises ValueError, TypeError or AttributeError if it is not valid."""

    def stop_reuse(self) -> None:
        """Accept no request after this one: the client's bytes cannot be trusted."""

    # --- the request

    def find_route(self, host: bytes) -> Route | None:
        """Return the route of a host in the current routing table."""

    def find_namespace(self) -> str:
        """Return the namespace of the client's pod in the current routing table; empty if it is unknown."""

    def wait(self, seconds: float | None) -> None:
        """Set the deadline of the current wait; None means that something else limits it."""

    def wait_for_exchange(self) -> None:
        """Wait for what the exchange needs next."""

    def rest(self, seconds: float) -> None:
        """Process no further request of the connection for this time, so that other clients have turns."""

    def on_upstream_ready(self, upstream: UpstreamStream) -> None:
        """Resume reading, which was paused because there was no upstream."""

    # --- ends

    def on_exchange_finished(self) -> None:
        """Continue with the next request, or close."""

    def release(self) -> ReleasedTransport:
        """Give up the transport, and return it."""

    def abort(self, code: int = INTERNAL_ERROR) -> None:
        """Reset the connection or stream, so that the client cannot mistake a partial response for a complete one.

        `code` is an error code of HTTP/2 (RFC 9113 section 7), for clients that can receive one.
        """
