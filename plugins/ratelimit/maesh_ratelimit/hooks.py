"""The hooks of the proxy's half. pluggy marks the functions of hooks, and cannot mark those that mypyc compiles."""

import os
import socket
from collections.abc import Sequence
from importlib.util import find_spec

from maesh_core.plugin import MiddlewareFactory, Node, hookimpl
from maesh_ratelimit import RateLimitSettings
from maesh_ratelimit.buckets import BucketTable
from maesh_ratelimit.node_store import NodeStore
from maesh_ratelimit.proxy import RateLimitFactory
from maesh_ratelimit.redis_settings import parse_redis_url
from maesh_ratelimit.settings import NODE_STORE, REDIS_STORE
from maesh_ratelimit.store import Store


class ProxyHalf:
    """What a proxy loads."""

    def __init__(self, settings: RateLimitSettings) -> None:
        self._settings = settings
        if settings.redis_url and find_spec("redis") is None:
            raise ImportError("limits in Redis need another package: pip install 'maesh-ratelimit[redis]'")

    @hookimpl
    def maesh_middleware_factories(self, node: Node) -> Sequence[MiddlewareFactory]:
        """Return the only factory of this plugin."""
        node.follow_accounts()
        local = NodeStore(BucketTable(node))
        stores: dict[str, Store] = {NODE_STORE: local}
        if self._settings.redis_url:
            stores[REDIS_STORE] = build_redis_store(self._settings, node, local)
        return [RateLimitFactory(node, stores)]


def build_redis_store(settings: RateLimitSettings, node: Node, local: Store) -> Store:
    """Build the store that asks Redis, whose client takes some megabytes."""
    from maesh_ratelimit.redis_store.connection import RedisLink
    from maesh_ratelimit.redis_store.driver import RedisStore

    link = RedisLink(
        parse_redis_url(settings.redis_url),
        node=f"{node.settings.node}/{socket.gethostname()}/{os.getppid()}",  # all workers of a node have one parent
        prefix=settings.redis_prefix,
        timeout_s=settings.redis_timeout,
        password_file=settings.redis_password_file,
        ca_file=settings.redis_ca_file,
        certificate_file=settings.redis_certificate_file,
        key_file=settings.redis_key_file,
    )
    return RedisStore(link, node, local, nodes=settings.nodes)
