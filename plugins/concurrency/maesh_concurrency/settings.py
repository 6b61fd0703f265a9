"""What travels from controller to proxy. It stays interpreted: mypyc drops the keywords of a class."""

from typing import Annotated

import msgspec
from msgspec import Meta

RequestCount = Annotated[int, Meta(ge=1, le=1_000_000)]
"""A number of requests that run at once."""


class ServiceConcurrency(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The limit of one service: `limit` requests at once on each node.

    With `sources`, each client that they identify has the limit for itself. If `is_adaptive`, the limit follows the
    latency of the servers, between `smallest` and `limit`; it has no sources then.
    """

    limit: RequestCount
    sources: tuple[str, ...] = ()
    is_adaptive: bool = False
    smallest: RequestCount = 1
