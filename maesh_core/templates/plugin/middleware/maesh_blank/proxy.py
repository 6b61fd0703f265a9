"""The proxy's half: the settings that the controller's half built in, the object that sees each exchange out.

Everything that can be made once is made when the middleware is built, and not for each request.
"""

from collections.abc import Sequence

from maesh_blank import BlankSettings, ServiceBlank
from maesh_core.plugin import Exchange, Middleware, MiddlewareFactory, hookimpl, override


class Blank(Middleware):
    """The middleware of one service. It overrides only the methods that it needs: the others cost nothing."""

    def __init__(self, settings: ServiceBlank) -> None:
        self._name = settings.header.encode()
        self._value = settings.value.encode()

    @override
    def on_response(self, exchange: Exchange) -> None:
        """Put the header on the response."""
        exchange.response_headers.set(self._name, self._value)


class BlankFactory:
    """Builds the middleware of each service that has one."""

    kind = "blank"
    settings_type = ServiceBlank

    def build_middleware(self, settings: ServiceBlank, service: str) -> Blank:
        """Build the middleware of one service; called again only when its settings change."""
        return Blank(settings)


class ProxyHalf:
    """What a proxy loads."""

    def __init__(self, settings: BlankSettings) -> None:
        self._settings = settings

    @hookimpl
    def maesh_middleware_factories(self) -> Sequence[MiddlewareFactory]:
        """Return the middlewares of this plugin."""
        return [BlankFactory()]
