"""The hooks of the proxy's half. pluggy marks the functions of hooks, and cannot mark those that mypyc compiles."""

from collections.abc import Sequence

from maesh_circuitbreaker import CircuitBreakerSettings
from maesh_circuitbreaker.proxy import BreakerFactory
from maesh_core.plugin import MiddlewareFactory, Node, hookimpl


class ProxyHalf:
    """What a proxy loads; the plugin's own settings have gone into each service's."""

    def __init__(self, settings: CircuitBreakerSettings) -> None:
        self._settings = settings

    @hookimpl
    def maesh_middleware_factories(self, node: Node) -> Sequence[MiddlewareFactory]:
        """Return the one factory of this plugin."""
        return [BreakerFactory(node)]
