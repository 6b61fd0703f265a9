"""Where a request is redirected: the value of Location, from the settings and the parts of the request.

The address is always complete, so a path that begins with `//` cannot become a host. Its parts are those of the
settings, which the controller has checked, and those of the request, which the proxy has parsed: neither has bytes that
end a header field. The controller uses the same code to explain a redirect.
"""

from typing import Final

from maesh_core.plugin import PathChanger, ReadableHeaders, is_ambiguous
from maesh_redirect.settings import Redirect

PORTS: Final = {b"http": b"80", b"https": b"443"}
"""The ports of schemes, which an address does not name."""


class Locator:
    """Finds the new address of requests, for one redirect."""

    def __init__(self, settings: Redirect) -> None:
        self._settings = settings
        self._scheme = settings.scheme.encode()
        self._host = settings.host.encode()
        self._port = b"%d" % settings.port if settings.port else PORTS.get(self._scheme, b"")
        self._changer = None if settings.path is None else PathChanger(settings.path)
        self._is_of_service = settings.is_of_service

    def __repr__(self) -> str:
        return f"<Locator {self._settings!r}>"

    def refuses(self, target: bytes) -> bool:
        """Return whether a target must not be redirected, because a server could read its path in another way."""
        return self._changer is not None and self._changer.is_prefix and is_ambiguous(target)

    def find(self, target: bytes, host: bytes, service_port: bytes, headers: ReadableHeaders) -> bytes | None:
        """Find the new address; None for a request that is not redirected."""
        new_target = target
        if self._changer is not None:
            changed = self._changer.change(target)
            if changed is None:
                return None
            new_target = changed
        new_host = self._host or host
        is_same = self._is_of_service and new_host == host and new_target == target
        if is_same and not self._scheme and not self._port:
            return None
        old_scheme, old_port = find_origin(service_port, headers)
        scheme, port = self._scheme or old_scheme, self._port or old_port
        if is_same and scheme == old_scheme and port == old_port:
            return None
        if not new_target.startswith(b"/"):  # `OPTIONS *` has no path
            new_target = b"/"
        return build_location(scheme, new_host, port, new_target)


def find_origin(service_port: bytes, headers: ReadableHeaders) -> tuple[bytes, bytes]:
    """Find the scheme and the port that the client has used: those of the service port.

    A trusted proxy in front of the mesh may say that its client has used HTTPS; the port is then the one that it names,
    or 443.
    """
    if headers.get(b"x-forwarded-proto") == b"https":
        port = headers.get(b"x-forwarded-port") or b""
        return b"https", port if port.isdigit() and len(port) <= 5 else PORTS[b"https"]
    return b"http", service_port


def build_location(scheme: bytes, host: bytes, port: bytes, target: bytes) -> bytes:
    """Build an address; without a host, which only HTTP/1.0 allows, its path."""
    if not host:
        return b"/" + target.lstrip(b"/")
    if port == PORTS[scheme]:
        return b"%b://%b%b" % (scheme, host, target)
    return b"%b://%b:%b%b" % (scheme, host, port, target)
