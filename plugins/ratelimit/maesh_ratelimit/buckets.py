"""A table of token buckets that the workers of a node share. Its size is fixed, regardless of the number of clients.

A bucket is one number: the time in seconds at which it is full again. As a token bucket, this is the generic cell rate
algorithm (ITU-T I.371). A bucket whose time has passed is the same as a missing one, and is evicted first. Keys are 60
bits of a hash, and each key has eight possible places.

Workers write without a lock. If two write at the same instant, one token is lost. Therefore each worker also counts its
tokens in a place where no other worker writes. The counts give a lower bound of the time. A single worker needs none.
"""

from hashlib import blake2b
from typing import Final
from weakref import WeakSet

from maesh_core.plugin import Node
from maesh_ratelimit.places import Places

SETS: Final = 8192
WAYS: Final = 8
BUCKETS: Final = SETS * WAYS
"""Remembers 65,536 clients, like Traefik, for all limits of a node together, in 1 MiB."""


class BucketTable:
    """The buckets of a node: the key of each (0: empty), its time, and the number of tokens that each worker took."""

    __slots__ = ("_counts", "_limits", "_remembered", "keys", "own_count", "times", "workers")

    def __init__(self, node: Node) -> None:
        view = node.share("ratelimit/buckets", BUCKETS * 16).view
        self.keys, self.times = view[: BUCKETS * 8].cast("q"), view[BUCKETS * 8 :].cast("d")
        self.workers = node.workers
        self._limits: WeakSet[Places] = WeakSet()
        self._remembered = 0
        slots = range(node.workers) if node.workers > 1 else ()
        self._counts = [node.share(f"ratelimit/counts/{slot}", BUCKETS * 8).view.cast("q") for slot in slots]
        self.own_count = self._counts[node.slot] if slots else None

    def __repr__(self) -> str:
        return f"<BucketTable {sum(map(bool, self.keys))} of {BUCKETS} in use>"

    def remember(self, places: Places) -> None:
        """Count a bucket whose place a limit remembers. All limits together remember at most as many as there are."""
        if self._remembered >= BUCKETS:
            for each in self._limits:
                each.forget()
            self._remembered = 0
        self._remembered += 1
        self._limits.add(places)

    def count_taken(self, place: int) -> int:
        """Count the tokens that all workers have taken at a place, for all clients that used it."""
        return sum(count[place] for count in self._counts)

    def find(self, key: int, now: float) -> int:
        """Find the place of a key. If it has none, take one whose bucket is full again, or will be full first."""
        first = key % SETS * WAYS
        keys, times = self.keys, self.times
        best = first
        for place in range(first, first + WAYS):
            if keys[place] == key:
                return place
            if times[place] < times[best]:
                best = place
        keys[best], times[best] = key, now
        return self._unite([place for place in range(first, first + WAYS) if keys[place] == key] or [best])

    def _unite(self, places: list[int]) -> int:
        """Keep only the first place of a client: workers may have taken several at the same instant.

        A worker that lost its place searches again at the client's next request.
        """
        kept, *others = places
        for place in others:
            self.times[kept] = max(self.times[kept], self.times[place])
            self.keys[place] = 0
        return kept


def build_key(limit: str, source: str | bytes) -> int:
    """Hash a client of a limit to 60 bits, never 0. 60, because Python computes with 30 bits at a time."""
    text = source if isinstance(source, bytes) else source.encode()
    digest = blake2b(text, digest_size=8, key=blake2b(limit.encode(), digest_size=32).digest()).digest()
    return int.from_bytes(digest, "little") >> 4 or 1
