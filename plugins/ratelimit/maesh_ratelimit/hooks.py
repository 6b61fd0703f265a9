"""The hooks of the proxy's half. pluggy marks the functions of hooks, and cannot mark those that mypyc compiles."""

from collections.abc import Sequence

from maesh_core.plugin import MiddlewareFactory, Node, hookimpl
from maesh_ratelimit.buckets import BucketTable
from maesh_ratelimit.proxy import RateLimitFactory


class ProxyHalf:
    """What a proxy loads."""

    @hookimpl
    def maesh_middleware_factories(self, node: Node) -> Sequence[MiddlewareFactory]:
        """Give the one factory of this plugin."""
        return [RateLimitFactory(BucketTable(node))]
