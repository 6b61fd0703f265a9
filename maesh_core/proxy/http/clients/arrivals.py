"""Queues accepted clients that have no connection object yet, and takes them from each client address in turn.

Takes accepted clients and returns them round-robin by address. The kernel's accept queue is first in, first out:
without this, a client that connects repeatedly delays all others.
"""

from collections import deque
from typing import Final, Generic, Protocol, TypeVar

ARRIVED_LIMIT: Final = 4096
"""Accepted clients that wait for a connection. Above this, a client of the address with the most of them is closed."""

COMPARED_LIMIT: Final = 512
"""Addresses compared to find the one with the most waiting clients. With more addresses, the newest client is
closed."""


class Arrival(Protocol):
    """An accepted client."""

    __slots__ = ("address",)

    address: str

    def close(self) -> None:
        """Close its socket."""


ArrivalT = TypeVar("ArrivalT", bound=Arrival)


class Arrivals(Generic[ArrivalT]):
    """Accepted clients, grouped by address; pop() takes from each address in turn."""

    __slots__ = ("_by_address", "_count")

    def __init__(self) -> None:
        self._by_address: dict[str, deque[ArrivalT]] = {}
        self._count = 0

    def __repr__(self) -> str:
        return f"<Arrivals {self._count} of {len(self._by_address)} addresses>"

    def __len__(self) -> int:
        return self._count

    def add(self, client: ArrivalT) -> None:
        """Add a client. Above the limit, close the newest client of the address with the most, or this one."""
        waiting = self._by_address.get(client.address)
        if waiting is None:
            waiting = self._by_address[client.address] = deque()
        waiting.append(client)
        self._count += 1
        if self._count > ARRIVED_LIMIT:
            self._drop_one(client.address)

    def pop(self) -> ArrivalT:
        """Remove and return the oldest client of the next address. Must not be called when empty."""
        address = next(iter(self._by_address))
        waiting = self._by_address[address]
        client = waiting.popleft()
        self._forget(address)
        if waiting:
            self._by_address[address] = self._by_address.pop(address)
        return client

    def _drop_one(self, newest: str) -> None:
        most = newest
        if len(self._by_address) <= COMPARED_LIMIT:
            most = max(self._by_address, key=lambda each: len(self._by_address[each]))
        excess = self._by_address[most].pop()
        self._forget(most)
        excess.close()

    def _forget(self, address: str) -> None:
        self._count -= 1
        if not self._by_address[address]:
            del self._by_address[address]
