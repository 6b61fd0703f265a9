"""The hooks of the proxy's half. pluggy marks the functions of hooks, and cannot mark those that mypyc compiles."""

from collections.abc import Sequence

from maesh_core.plugin import MiddlewareFactory, hookimpl
from maesh_session import SessionSettings
from maesh_session.proxy import SessionFactory


class ProxyHalf:
    """What a proxy loads. The keys are part of each service's settings, so the plugin's own are not used here."""

    def __init__(self, settings: SessionSettings) -> None:
        self._settings = settings

    @hookimpl
    def maesh_middleware_factories(self) -> Sequence[MiddlewareFactory]:
        """Return the only factory of this plugin."""
        return [SessionFactory()]
