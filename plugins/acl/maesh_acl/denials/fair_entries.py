"""Entries of clients, limited together, such that no client can push out the entries of others.

At the limit, the client with the most entries loses the one that it used least recently. So a client keeps its share,
the limit divided by the number of clients, whatever the others do. Each operation takes constant time.
"""

from collections.abc import Iterator
from typing import Final, Generic, Protocol, TypeVar


class ClientKey(Protocol):
    """The key of an entry, which is hashable."""

    @property
    def client(self) -> str:
        """The address of the client."""


KeyT = TypeVar("KeyT", bound=ClientKey)
EntryT = TypeVar("EntryT")


class FairEntries(Generic[KeyT, EntryT]):
    """At most `limit` entries, in the order in which each client used its own. `forgotten` counts evicted entries."""

    __slots__ = ("_by_client", "_by_size", "_count", "_largest", "_limit", "forgotten")

    def __init__(self, limit: int) -> None:
        self.forgotten = 0
        self._limit: Final = limit
        self._count = 0
        self._by_client: dict[str, dict[KeyT, EntryT]] = {}
        self._by_size: dict[int, dict[str, None]] = {}
        """The clients with a number of entries, in the order in which they were used last."""
        self._largest = 0
        """No client has more entries."""

    def __repr__(self) -> str:
        return f"<FairEntries {self._count} of {self._limit}>"

    def __len__(self) -> int:
        """Count the entries."""
        return self._count

    def __iter__(self) -> Iterator[tuple[KeyT, EntryT]]:
        """Iterate over keys and entries, client after client."""
        for own in self._by_client.values():
            yield from own.items()

    def find(self, key: KeyT) -> EntryT | None:
        """Find an entry, and note that it was used; None if there is none."""
        own = self._by_client.get(key.client)
        if own is None or key not in own:
            return None
        entry = own[key] = own.pop(key)
        self._move(key.client, len(own), len(own))
        return entry

    def add(self, key: KeyT, entry: EntryT) -> KeyT | None:
        """Add an entry that there is not yet; return the key of the one that was evicted for it, if any."""
        evicted = self._evict() if self._count >= self._limit else None
        own = self._by_client.setdefault(key.client, {})
        own[key] = entry
        self._count += 1
        self._move(key.client, len(own) - 1, len(own))
        self._largest = max(self._largest, len(own))
        return evicted

    def _evict(self) -> KeyT:
        while self._largest not in self._by_size:  # as often as `add` has raised it
            self._largest -= 1
        client = next(iter(self._by_size[self._largest]))
        own = self._by_client[client]
        oldest = next(iter(own))
        del own[oldest]
        self._move(client, self._largest, len(own))
        if not own:
            del self._by_client[client]
        self._count -= 1
        self.forgotten += 1
        return oldest

    def _move(self, client: str, before: int, after: int) -> None:
        """Note how many entries a client has, and that it was used."""
        if before:
            clients = self._by_size[before]
            del clients[client]
            if not clients:
                del self._by_size[before]
        if after:
            self._by_size.setdefault(after, {})[client] = None
