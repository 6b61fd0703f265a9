"""The states of stores, as workers report them to controllers, which show them under `/api/ratelimit/stores`.

Both halves use these values. What a controller receives is untrusted.
"""

from collections.abc import Sequence
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

REPORT_NAME: Final = "ratelimit"
REPORT_PATH: Final = "/api/ratelimit/stores"
STORES_LIMIT: Final = 8
WORKERS_LIMIT: Final = 1024


class StoreState(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The state of a store in one worker. `reason` says why the store is away; `nodes` share its limits.

    It is `unused` until a limit uses it and the first attempt to connect has ended.
    """

    store: Annotated[str, Meta(min_length=1, max_length=63)]
    server: Annotated[str, Meta(max_length=300)] = ""
    state: Literal["unused", "connected", "away"]
    reason: Annotated[str, Meta(max_length=300)] = ""
    nodes: Annotated[int, Meta(ge=0, le=100_000)] = 0
    leases: Annotated[int, Meta(ge=0, le=10**9)] = 0


class WorkerStores(msgspec.Struct, frozen=True, kw_only=True):
    """The report of one worker."""

    stores: Annotated[tuple[StoreState, ...], Meta(max_length=STORES_LIMIT)] = ()


class ProxyStores(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the workers of one proxy report; `error` says why there is nothing."""

    name: str
    workers: tuple[WorkerStores, ...] = ()
    error: str = ""


class StoresDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The document of the page. `complete` is false if a proxy or a controller has not answered."""

    complete: bool
    proxies: Sequence[ProxyStores]


def read_proxy(name: str, workers: Sequence[bytes | msgspec.Raw], error: str) -> ProxyStores:
    """Decode the reports of a proxy's workers; one that is not valid makes an error."""
    try:
        if len(workers) > WORKERS_LIMIT:
            raise ValueError("too many workers")
        found = tuple(msgspec.json.decode(each, type=WorkerStores) for each in workers)
    except (ValueError, RecursionError) as problem:  # msgspec's errors are ValueErrors
        return ProxyStores(name=name, error=f"the report cannot be used: {problem}")
    return ProxyStores(name=name, workers=found, error=error)
