"""Finds the client that has been idle for longest, for when there are no slots left.

Requests record nothing for this. The first call looks at all clients and sorts the idle ones; later calls return the
next of these, and skip those that have had a request since. The looks are rationed: between two ticks of the clock a
call costs a constant on average, however the slots are filled.
"""

from collections.abc import Collection
from typing import Final, Generic, Protocol, TypeVar

from maesh_core.proxy.network.clock import Clock

LOOKS_PER_ASKER: Final = 256
"""Clients that a call may look at on average, at 0.6 us each; one look at all is allowed in each tick of the clock."""


class MaybeIdle(Protocol):
    """A client, as it is seen here. `number` grows from one client to the next."""

    number: int

    @property
    def idle_since(self) -> float | None:
        """Since when it has been idle, by the clock; None where it is not."""


ClientT = TypeVar("ClientT", bound=MaybeIdle)


class IdleClients(Generic[ClientT]):
    """The idle ones of `clients`, a collection that its owner changes."""

    __slots__ = ("_clients", "_clock", "_credit", "_found", "_looked_at")

    def __init__(self, clients: Collection[ClientT], clock: Clock) -> None:
        self._clients = clients
        self._clock = clock
        self._found: list[tuple[float, int, ClientT]] = []
        self._looked_at = -1.0
        self._credit = 0

    def __repr__(self) -> str:
        return f"<IdleClients {len(self._found)} found among {len(self._clients)}>"

    def pop(self) -> ClientT | None:
        """Give the client that has been idle for longest; None where none is, or none was a moment ago."""
        self._credit += LOOKS_PER_ASKER
        client = self._pop_found()
        if client is None and (self._clock.now != self._looked_at or self._credit >= len(self._clients)):
            self._look()
            client = self._pop_found()
        return client

    def _pop_found(self) -> ClientT | None:
        while self._found:
            since, _, client = self._found.pop()
            if client.idle_since == since:
                return client
        return None

    def _look(self) -> None:
        self._credit, self._looked_at = 0, self._clock.now
        idle = [(since, each.number, each) for each in self._clients if (since := each.idle_since) is not None]
        idle.sort(reverse=True)
        self._found = idle
