"""The request's run through middlewares, as an exchange uses it; middleware_run.py implements it."""

from typing import Protocol

from maesh_core.errors import ExchangeError
from maesh_core.proxy.balancing.balancer import Balancer
from maesh_core.proxy.http.exchanges.attempt import Attempt
from maesh_core.proxy.http.exchanges.body_flow import BodyFlow
from maesh_core.proxy.http.messages.headers import Headers
from maesh_core.proxy.http.messages.response_head import ResponseHead
from maesh_core.proxy.http.routes import Route
from maesh_core.proxy.http.upstreams.connection_pool import HttpServer
from maesh_core.proxy.http.upstreams.upstream_stream import Forwarding, UpstreamStream


class ResponseBody(Protocol):
    """The response's body on its way through middlewares (response_flow.py)."""

    __slots__ = ()

    is_withheld: bool
    """Whether the response's head was not sent yet."""
    trailers: bytes

    def send_head(self) -> None:
        """Send the head, unless it is withheld."""

    def receive(self, data: bytes) -> None:
        """Process content of the server's response."""

    def end(self, trailers: bytes) -> None:
        """Process the end of the content."""

    def pump(self) -> None:
        """Continue, since the client reads again."""


class Run(Protocol):
    """The request's run through middlewares, as the exchange uses it (middleware_run.py)."""

    __slots__ = ()

    changed_response: Headers | None
    """The header fields of the response, if a middleware has changed them; otherwise None."""
    tried: tuple[HttpServer, ...]
    """The servers of earlier attempts."""
    request_flow: BodyFlow | None
    """The request's body on its way through middlewares; None if none of the route may use it."""

    response_flow: ResponseBody | None
    """The response's body on its way through middlewares; None if none uses it."""

    def prepare(self, attempt: Attempt) -> None:
        """Prepare an attempt for what middlewares do with bodies."""

    def begin(self, route: Route, balancer: Balancer[HttpServer]) -> None:
        """Call the middlewares' `on_request`, then start the first attempt or answer."""

    def keep_body(self, body: bytes) -> None:
        """Store bytes of the request's body for another attempt."""

    def pick_other(self, balancer: Balancer[HttpServer], passed_over: tuple[HttpServer, ...]) -> HttpServer | None:
        """Pick a server that the request may go to, preferably another than these and those of earlier attempts."""

    def on_attempt_failed(self, error: ExchangeError) -> None:
        """Start another attempt, or answer."""

    def judge_response(self, response: ResponseHead, *, is_whole: bool) -> Forwarding | None:
        """Call the middlewares' `on_response`; None means that they do not affect how the response is forwarded."""

    def on_switching(self, upstream: UpstreamStream, response: ResponseHead, rest: bytes) -> None:
        """Handle a 101 and the bytes after it. Raises UpstreamProtocolError."""

    def on_timeout(self) -> bool:
        """Fail a middleware that takes too long; return False if the exchange does not wait for one."""

    def on_finished(self) -> None:
        """Call `on_finished` of the middlewares that saw the request."""

    def find_revocation(self) -> str:
        """Return why the request is no longer allowed under the current routing table; empty if it is."""

    def revoke(self) -> None:
        """End the exchange because it is no longer allowed."""
