"""Clients that were accepted and whose connections are not made yet: one client address after the other.

The kernel's queue is first come, first served, so a client that connects over and over keeps all others waiting there.
"""

from collections import deque
from typing import Final, Generic, Protocol, TypeVar

ARRIVED_LIMIT: Final = 4096
"""Clients that were accepted and have no connection yet; above, one of the address that has most is closed."""

COMPARED_LIMIT: Final = 512
"""Addresses that are looked through for the one that has most; where there are more, the newest client is closed."""


class Arrival(Protocol):
    """A client that was accepted."""

    __slots__ = ("address",)

    address: str

    def close(self) -> None:
        """Close its socket."""


ArrivalT = TypeVar("ArrivalT", bound=Arrival)


class Arrivals(Generic[ArrivalT]):
    """Accepted clients, by the addresses they came from; addresses take turns."""

    __slots__ = ("_by_address", "_count")

    def __init__(self) -> None:
        self._by_address: dict[str, deque[ArrivalT]] = {}
        self._count = 0

    def __repr__(self) -> str:
        return f"<Arrivals {self._count} of {len(self._by_address)} addresses>"

    def __len__(self) -> int:
        return self._count

    def add(self, client: ArrivalT) -> None:
        """Add a client; if there are too many, close the latest one of the address that has most, or this one."""
        waiting = self._by_address.get(client.address)
        if waiting is None:
            waiting = self._by_address[client.address] = deque()
        waiting.append(client)
        self._count += 1
        if self._count > ARRIVED_LIMIT:
            self._drop_one(client.address)

    def pop(self) -> ArrivalT:
        """Take the oldest client of the address whose turn it is; there must be one."""
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
