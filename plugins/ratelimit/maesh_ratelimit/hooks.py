"""The hooks of the proxy's half. pluggy marks the functions of hooks, and cannot mark those that mypyc compiles."""

from collections.abc import Sequence

from maesh_core.plugin import MiddlewareFactory, Node, hookimpl
from maesh_ratelimit import RateLimitSettings
from maesh_ratelimit.buckets import BucketTable
from maesh_ratelimit.node_store import NodeStore
from maesh_ratelimit.proxy import RateLimitFactory
from maesh_ratelimit.settings import NODE_STORE


class ProxyHalf:
    """What a proxy loads."""

    def __init__(self, settings: RateLimitSettings) -> None:
        self._settings = settings

    @hookimpl
    def maesh_middleware_factories(self, node: Node) -> Sequence[MiddlewareFactory]:
        """Give the one factory of this plugin."""
        node.follow_accounts()
        return [RateLimitFactory(node, {NODE_STORE: NodeStore(BucketTable(node))})]
