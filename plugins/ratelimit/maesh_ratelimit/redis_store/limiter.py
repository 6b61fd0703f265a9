"""The limiter of the store `redis`: it spends leased tokens. Its common case reads one dict and no clock.

For a client without a lease, `take` returns `ASK`, and `ask` returns the decision of Redis. While Redis is away,
the node's own buckets decide, with the limit divided by the number of nodes.
"""

import asyncio
from collections.abc import Callable
from hashlib import blake2b
from typing import Final

import msgspec

from maesh_ratelimit.redis_store.leases import (
    WAITING_LIMIT,
    Lease,
    LeaseBook,
    Terms,
    build_refusal,
)
from maesh_ratelimit.settings import NODE_STORE, Limit
from maesh_ratelimit.store import ASK, Limiter, Store

KEY_BYTES: Final = 16
"""Length of the hash that names a client's bucket, so that Redis gets no addresses or header values."""
REMEMBERED_LENGTH: Final = 64
"""Longer sources are hashed, so that clients cannot fill the memory."""


class LocalShare:
    """The node's own buckets for a time without Redis. `nodes` is the last known number of nodes."""

    def __init__(self, store: Store, count_nodes: Callable[[], int]) -> None:
        self.store: Final = store
        self.count_nodes: Final = count_nodes
        self.decisions: int = 0
        """Requests that were decided by it."""


class RedisLimiter(Limiter):
    """The buckets of one limit of one service, as this worker has leased from them."""

    def __init__(
        self, limit: Limit, service: str, book: LeaseBook, share: LocalShare, time: Callable[[], float]
    ) -> None:
        super().__init__(limit)
        self._limit, self._service = limit, service
        self._terms = Terms(limit, self.longest_wait_s)
        self._name = blake2b(f"{service} {msgspec.json.encode(limit).decode()}".encode(), digest_size=32).digest()
        self._book, self._share, self._time = book, share, time
        self._leases: dict[str | bytes, Lease] = {}
        self._nodes: int = 0
        self._local: Limiter | None = None

    def __repr__(self) -> str:
        return f"<RedisLimiter of {self._service}: {len(self._leases)} leases>"

    def take(self, source: str | bytes) -> float:
        """Spend a leased token of a client; see `Limiter.take`."""
        lease = self._leases.get(source)
        if lease is not None and lease.tokens > 0:
            tokens = lease.tokens - 1
            lease.tokens = tokens
            if tokens < lease.low:
                self._book.mark(lease)
            return 0.0
        return self._miss(source)

    def _miss(self, source: str | bytes) -> float:
        """Decide about a request for which no token is at hand."""
        if self._book.is_away or self._book.waiting >= WAITING_LIMIT:
            return self._take_local(source)
        lease = self._find(source)
        if lease is None:
            return ASK
        if lease.tokens > 0:  # of a long source
            lease.tokens -= 1
            if lease.tokens < lease.low:
                self._book.mark(lease)
            return 0.0
        wait_s = lease.empty_until - self._time()
        if wait_s <= self.longest_wait_s and (wait_s <= 0 or self._terms.scarce_s == 0):
            return ASK
        if self._terms.scarce_s > 0:
            self._book.mark(lease)
        return build_refusal(wait_s, self.longest_wait_s)

    async def ask(self, source: str | bytes) -> float:
        """Ask Redis for a token of a client, together with what others ask for."""
        if self._book.is_away:
            return self._take_local(source)
        waiter: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        lease = self._find(source)
        if lease is None:
            short = _shorten(source)
            lease = Lease(self._build_key(short), self._terms, short, self._leases, self._take_local)
            self._book.open(lease, self._time())
        self._book.wait(lease, waiter)
        return await waiter

    def give_back(self, source: str | bytes) -> None:
        """Return a token to where it came from; without a lease, it is lost."""
        lease = self._find(source)
        if lease is not None:
            lease.tokens += 1
        elif self._book.is_away and self._local is not None:
            self._local.give_back(source)

    def count_missing(self, source: str | bytes) -> float | None:
        """Return how many tokens a client's bucket lacks, by the last answer of Redis; None if the lease has ended."""
        lease = self._find(source)
        if lease is not None:
            return float(max(0, self._terms.burst - lease.left - lease.tokens))
        if self._book.is_away and self._local is not None:
            return self._local.count_missing(source)
        return None

    def _find(self, source: str | bytes) -> Lease | None:
        return self._leases.get(_shorten(source))

    def _build_key(self, source: str | bytes) -> bytes:
        text = source if isinstance(source, bytes) else source.encode()
        return blake2b(text, digest_size=KEY_BYTES, key=self._name).hexdigest().encode()

    def _take_local(self, source: str | bytes) -> float:
        nodes = self._share.count_nodes()
        local = self._local
        if local is None or nodes != self._nodes:
            local = self._local = self._build_local(nodes)
        self._share.decisions += 1
        wait_s = local.take(_shorten(source))
        return wait_s if wait_s <= self.longest_wait_s else build_refusal(wait_s, self.longest_wait_s)

    def _build_local(self, nodes: int) -> Limiter:
        """Build the node's share: the average and the burst, divided by the number of nodes."""
        limit = self._limit
        self._nodes = nodes
        share = Limit(
            name=limit.name,
            average=limit.average,
            burst=max(1, limit.burst // nodes),
            period_s=limit.period_s * nodes,
            sources=limit.sources,
            store=NODE_STORE,
        )
        local = self._share.store.build_limiter(share, self._service)
        local.longest_wait_s = self.longest_wait_s
        return local


def _shorten(source: str | bytes) -> str | bytes:
    """Return what a source is remembered by: a hash if it is long."""
    if len(source) <= REMEMBERED_LENGTH:
        return source
    text = source if isinstance(source, bytes) else source.encode()
    return blake2b(text, digest_size=32).digest()
