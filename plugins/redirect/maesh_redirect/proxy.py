"""The proxy's half: answers requests with a redirect; no server is contacted."""

from typing import Final

from maesh_core.plugin import Exchange, Middleware, Response
from maesh_redirect.locations import Locator
from maesh_redirect.settings import Redirect

AMBIGUOUS: Final = Response(status=403, reason="the path is ambiguous")
REASON: Final = "the request is redirected"


class Redirection(Middleware):
    """The redirect of one service or rule."""

    def __init__(self, settings: Redirect) -> None:
        self._locator = Locator(settings)
        self._status: int = settings.status
        self._service, self._port = "", b""
        """The service of the last request, and its port."""

    def __repr__(self) -> str:
        return f"<Redirection {self._status} {self._locator!r}>"

    def on_request(self, exchange: Exchange) -> Response | None:
        """Answer with the new address; None for a request that passes."""
        target = exchange.target
        if self._locator.refuses(target):
            return AMBIGUOUS
        service = exchange.service
        if service != self._service:
            self._service, self._port = service, service.rpartition(":")[2].encode()
        location = self._locator.find(target, exchange.host, self._port, exchange.client_headers)
        if location is None:
            return None
        return Response(status=self._status, reason=REASON, headers=((b"Location", location),))


class RedirectFactory:
    """Builds the middleware of each service or rule with a redirect."""

    kind = "redirect"
    settings_type = Redirect

    def build_middleware(self, settings: Redirect, service: str) -> Redirection:
        """Build the middleware of one service or rule."""
        return Redirection(settings)
