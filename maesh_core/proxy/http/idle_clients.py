"""Finds the client that has been idle longest, to evict it when no slot is free.

Requests record nothing for this. The first call examines all clients and sorts the idle ones; later calls return the
next one, skipping those that have sent a request since. Scans are rate-limited: between two ticks of the clock, a call
has a constant cost on average, whatever the clients do.
"""

from collections.abc import Collection
from typing import Final, Generic, Protocol, TypeVar

from maesh_core.proxy.network.clock import Clock

SCANNED_PER_CALL: Final = 256
"""Clients that a call may examine on average, at 0.6 us each. In addition, one full scan is allowed per tick of the
clock."""


class EvictableClient(Protocol):
    """The part of a client that this module uses. Newer clients have a higher `number`."""

    number: int

    @property
    def idle_since(self) -> float | None:
        """The clock's time since which it is idle; None if it is not."""


ClientT = TypeVar("ClientT", bound=EvictableClient)


class IdleClients(Generic[ClientT]):
    """The idle ones among `clients`, a collection that its owner modifies."""

    __slots__ = ("_clients", "_clock", "_credit", "_found", "_scanned_at")

    def __init__(self, clients: Collection[ClientT], clock: Clock) -> None:
        self._clients = clients
        self._clock = clock
        self._found: list[tuple[float, int, ClientT]] = []
        self._scanned_at = -1.0
        self._credit = 0

    def __repr__(self) -> str:
        return f"<IdleClients {len(self._found)} found among {len(self._clients)}>"

    def pop(self) -> ClientT | None:
        """Return the longest-idle client; None if no client is idle, or none was at the last scan."""
        self._credit += SCANNED_PER_CALL
        client = self._pop_found()
        if client is None and (self._clock.now != self._scanned_at or self._credit >= len(self._clients)):
            self._scan()
            client = self._pop_found()
        return client

    def _pop_found(self) -> ClientT | None:
        while self._found:
            since, _, client = self._found.pop()
            if client.idle_since == since:
                return client
        return None

    def _scan(self) -> None:
        self._credit, self._scanned_at = 0, self._clock.now
        idle = [(since, each.number, each) for each in self._clients if (since := each.idle_since) is not None]
        idle.sort(reverse=True)
        self._found = idle
