"""The proxy's half: takes the settings that the controller's half built, gives the middleware that acts on exchanges.

What it returns is called for every exchange of the service: header bytes are made once, here, and not per request.
"""

from collections.abc import Sequence

from maesh_core.plugin import Exchange, Middleware, MiddlewareFactory, hookimpl, override
from maesh_stamp import HeaderSettings, StampSettings


class Stamp(Middleware):
    """Sets one header on what goes to the server and on what comes back from it."""

    __slots__ = ("_name", "_value")

    def __init__(self, settings: HeaderSettings) -> None:
        self._name = settings.name.encode("ascii")
        self._value = settings.value.encode("ascii")

    def __repr__(self) -> str:
        return f"<Stamp {self._name!r}: {self._value!r}>"

    @override
    def on_request(self, exchange: Exchange) -> None:
        """Stamp the request; a value that the client sent does not survive."""
        exchange.request_headers.set(self._name, self._value)

    @override
    def on_response(self, exchange: Exchange) -> None:
        """Stamp the response."""
        exchange.response_headers.set(self._name, self._value)


class StampFactory:
    """Builds the middleware of each stamped service."""

    kind = "stamp"
    settings_type = HeaderSettings

    def build_middleware(self, settings: HeaderSettings, service: str) -> Stamp:
        """Build the middleware of one service."""
        return Stamp(settings)


class ProxyHalf:
    """What a proxy loads; the plugin's own settings concern the controller alone."""

    def __init__(self, settings: StampSettings) -> None:
        self._settings = settings

    @hookimpl
    def maesh_middleware_factories(self) -> Sequence[MiddlewareFactory]:
        """Return the one factory of this plugin."""
        return [StampFactory()]
