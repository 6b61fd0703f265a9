"""The request's run through middlewares, as an exchange uses it; middleware_run.py implements it."""

from typing import Protocol

from maesh_core.errors import ExchangeError
from maesh_core.proxy.balancing.balancer import Balancer
from maesh_core.proxy.http.messages.headers import Headers
from maesh_core.proxy.http.messages.response_head import ResponseHead
from maesh_core.proxy.http.routes import Route
from maesh_core.proxy.http.upstreams.connection_pool import HttpServer
from maesh_core.proxy.http.upstreams.upstream_stream import Forwarding, UpstreamStream


class Run(Protocol):
    """The request's run through middlewares, as the exchange uses it (middleware_run.py)."""

    __slots__ = ()

    changed_response: Headers | None
    """The header fields of the response, if a middleware has changed them; otherwise None."""
    tried: tuple[HttpServer, ...]
    """The servers of earlier attempts."""

    def begin(self, route: Route, balancer: Balancer[HttpServer]) -> None:
        """Call the middlewares' `on_request`, then start the first attempt or answer."""

    def keep_body(self, body: bytes) -> None:
        """Store bytes of the request's body for another attempt."""

    def pick_other(self, balancer: Balancer[HttpServer], passed_over: tuple[HttpServer, ...]) -> HttpServer | None:
        """Pick a server that the request may go to, preferably another than these and those of earlier attempts."""

    def on_attempt_failed(self, error: ExchangeError) -> None:
        """Start another attempt, or answer."""

    def judge_response(self) -> Forwarding | None:
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
