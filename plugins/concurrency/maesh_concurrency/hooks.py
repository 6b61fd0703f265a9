"""The hooks of the proxy's half. pluggy marks the functions of hooks, and cannot mark those that mypyc compiles."""

from collections.abc import Sequence

from maesh_concurrency import ConcurrencySettings
from maesh_concurrency.proxy import ConcurrencyFactory
from maesh_core.plugin import MiddlewareFactory, Node, hookimpl


class ProxyHalf:
    """What a proxy loads."""

    def __init__(self, settings: ConcurrencySettings) -> None:
        self._settings = settings

    @hookimpl
    def maesh_middleware_factories(self, node: Node) -> Sequence[MiddlewareFactory]:
        """Return the only factory of this plugin."""
        node.follow_accounts()
        return [ConcurrencyFactory(node)]
