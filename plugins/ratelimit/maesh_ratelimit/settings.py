"""What travels from controller to proxy. It stays interpreted: mypyc drops the keywords of a class."""

from typing import Annotated

import msgspec
from msgspec import Meta

NODE_STORE = "node"
"""The store of buckets that the workers of one node share."""
REDIS_STORE = "redis"
"""The store of buckets that all nodes of the mesh share, in a Redis server."""
STORES = (NODE_STORE, REDIS_STORE)
"""The names of all stores."""
LIMITS_LIMIT = 16
"""Limit of the limits of one service, because each takes part in every request."""
SOURCES_LIMIT = 4
"""Limit of the sources that identify the clients of one limit together."""


class Limit(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One limit of a service: `average` requests per period, `burst` at once, for each value of the sources.

    `name` is unique among the limits of the service. `sources` are those that the README lists, such as `ip`, and
    `store` names what keeps the buckets.
    """

    name: Annotated[str, Meta(min_length=1, max_length=63)]
    average: Annotated[int, Meta(ge=1, le=10**9)]
    burst: Annotated[int, Meta(ge=1, le=10**9)]
    period_s: Annotated[float, Meta(gt=0)] = 1.0
    sources: Annotated[tuple[str, ...], Meta(min_length=1, max_length=SOURCES_LIMIT)] = ("ip",)
    store: str = NODE_STORE


class ServiceLimits(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The limits of one service, as they travel from controller to proxy; a request needs a token of each."""

    limits: Annotated[tuple[Limit, ...], Meta(min_length=1, max_length=LIMITS_LIMIT)]
    shows_headers: bool = False
    """Whether responses have the headers RateLimit and RateLimit-Policy."""
