"""The proxy's half: answers requests with a redirect; no server is contacted.

The address in Location is always complete, so a path that begins with `//` cannot become a host. Its parts are those of
the settings, which the controller has checked, and those of the request, which the proxy has parsed: neither has bytes
that end a header field.
"""

from typing import Final

from maesh_core.plugin import Exchange, Middleware, PathChanger, Response, is_ambiguous
from maesh_redirect.settings import Redirect

PORTS: Final = {b"http": b"80", b"https": b"443"}
"""The ports of schemes, which an address does not name."""
AMBIGUOUS: Final = Response(status=403, reason="the path is ambiguous")
REASON: Final = "the request is redirected"


class Redirection(Middleware):
    """The redirect of one service or rule."""

    def __init__(self, settings: Redirect) -> None:
        self._settings = settings
        self._status: int = settings.status
        self._scheme = settings.scheme.encode()
        self._host = settings.host.encode()
        self._port = b"%d" % settings.port if settings.port else PORTS.get(self._scheme, b"")
        self._changer = None if settings.path is None else PathChanger(settings.path)
        self._is_of_service = settings.is_of_service

    def __repr__(self) -> str:
        return f"<Redirection {self._settings!r}>"

    def on_request(self, exchange: Exchange) -> Response | None:
        """Answer with the new address; None for a request that passes."""
        target = exchange.target
        changer = self._changer
        if changer is not None:
            if changer.is_prefix and is_ambiguous(target):
                return AMBIGUOUS
            changed = changer.change(target)
            if changed is None:
                return None
            target = changed
        old_scheme, old_port = self._find_origin(exchange)
        scheme, host, port = self._scheme or old_scheme, self._host or exchange.host, self._port or old_port
        if (
            self._is_of_service
            and (scheme, host, port) == (old_scheme, exchange.host, old_port)
            and target == exchange.target
        ):
            return None
        if not target.startswith(b"/"):  # `OPTIONS *` has no path
            target = b"/"
        location = build_location(scheme, host, port, target)
        return Response(status=self._status, reason=REASON, headers=((b"Location", location),))

    def _find_origin(self, exchange: Exchange) -> tuple[bytes, bytes]:
        """Find the scheme and the port that the client has used: those of the service port.

        A trusted proxy in front of the mesh may say that its client has used HTTPS; the port is then the one that it
        names, or 443.
        """
        headers = exchange.client_headers
        if headers.get(b"x-forwarded-proto") == b"https":
            port = headers.get(b"x-forwarded-port") or b""
            return b"https", port if port.isdigit() and len(port) <= 5 else PORTS[b"https"]
        return b"http", exchange.service.rpartition(":")[2].encode()


def build_location(scheme: bytes, host: bytes, port: bytes, target: bytes) -> bytes:
    """Build an address; without a host, which only HTTP/1.0 allows, its path."""
    if not host:
        return b"/" + target.lstrip(b"/")
    if port == PORTS[scheme]:
        return b"%b://%b%b" % (scheme, host, target)
    return b"%b://%b:%b%b" % (scheme, host, port, target)


class RedirectFactory:
    """Builds the middleware of each service or rule with a redirect."""

    kind = "redirect"
    settings_type = Redirect

    def build_middleware(self, settings: Redirect, service: str) -> Redirection:
        """Build the middleware of one service or rule."""
        return Redirection(settings)
