"""The hooks of the proxy's half. pluggy marks the functions of hooks, and cannot mark those that mypyc compiles."""

from collections.abc import Sequence

from maesh_core.plugin import MiddlewareFactory, hookimpl
from maesh_retry import RetrySettings
from maesh_retry.proxy import RetryFactory


class ProxyHalf:
    """What a proxy loads; what the plugin's own settings say, the controller has put into each service's."""

    def __init__(self, settings: RetrySettings) -> None:
        self._settings = settings

    @hookimpl
    def maesh_middleware_factories(self) -> Sequence[MiddlewareFactory]:
        """Return the one factory of this plugin."""
        return [RetryFactory()]
