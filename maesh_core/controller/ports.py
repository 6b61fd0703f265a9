"""Entrypoints of exclusive traffic types: each service port gets one of its own, and keeps it.

Takes what services want and gives each its entrypoints; says which waiting services got one. Keeps the mapping in a
file through maesh_core/controller/port_mapping.py. Reads no resources and builds no configuration.
"""

import heapq
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from maesh_core.hookspecs import PortRange
from maesh_core.model.keys import ObjectKey

GRACE_S = 60.0
"""A freed entrypoint rests this long: clients of the service that had it should not reach another one's servers."""

HIGHEST_PORT = 65535


class PortOwner(NamedTuple):
    """A port of a service, by number."""

    service: ObjectKey
    port: int


class PortClaim(NamedTuple):
    """What a service wants: an entrypoint of this traffic type for each of its port numbers."""

    traffic_type: str
    ports: tuple[int, ...]


class PortTable:
    """The entrypoints of one exclusive traffic type. A port is free, resting, or assigned to one owner."""

    __slots__ = ("_assigned", "_clock", "_first", "_free", "_grace_s", "_limit", "_resting")

    def __init__(
        self,
        port_range: PortRange,
        *,
        assigned: Mapping[PortOwner, int] | None = None,
        clock: Callable[[], float] = time.monotonic,
        grace_s: float = GRACE_S,
    ) -> None:
        self._first = port_range.first
        self._limit = min(port_range.limit, HIGHEST_PORT + 1 - port_range.first)
        self._assigned = {owner: port for owner, port in (assigned or {}).items() if self._has(port)}
        taken = set(self._assigned.values())
        self._free = [port for port in range(self._first, self._first + self._limit) if port not in taken]
        self._resting: dict[PortOwner, tuple[int, float]] = {}  # in the order they were freed
        self._clock = clock
        self._grace_s = grace_s

    def __repr__(self) -> str:
        return (
            f"<PortTable {self._limit} from {self._first} assigned={len(self._assigned)} resting={len(self._resting)}>"
        )

    @property
    def assigned(self) -> Mapping[PortOwner, int]:
        """Every owner's port."""
        return self._assigned

    def claim(self, owner: PortOwner) -> int | None:
        """Give an owner its port: the one it has, had, the lowest free, or the longest resting. None: no port left."""
        port = self._assigned.get(owner)
        if port is None:
            port = self._take(owner)
            if port is not None:
                self._assigned[owner] = port
        return port

    def release(self, owner: PortOwner) -> bool:
        """Lay an owner's port to rest; return whether it had one."""
        port = self._assigned.pop(owner, None)
        if port is not None:
            self._resting[owner] = (port, self._clock())
        return port is not None

    def _take(self, owner: PortOwner) -> int | None:
        self._end_rests()
        if (rested := self._resting.pop(owner, None)) is not None:
            return rested[0]
        if self._free:
            return heapq.heappop(self._free)
        if self._resting:
            return self._resting.pop(next(iter(self._resting)))[0]
        return None

    def _end_rests(self) -> None:
        now = self._clock()
        for owner, (port, freed_at) in list(self._resting.items()):
            if now - freed_at < self._grace_s:
                break
            del self._resting[owner]
            heapq.heappush(self._free, port)

    def _has(self, port: int) -> bool:
        return self._first <= port < self._first + self._limit


class PortTables:
    """The tables of all exclusive traffic types, and what each service wants of them."""

    __slots__ = ("_claims", "_tables", "_version", "_waiting")

    def __init__(
        self,
        ranges: Mapping[str, PortRange],
        *,
        assigned: Mapping[str, Mapping[PortOwner, int]] | None = None,
        clock: Callable[[], float] = time.monotonic,
        grace_s: float = GRACE_S,
    ) -> None:
        known = assigned or {}
        self._tables = {
            name: PortTable(port_range, assigned=known.get(name), clock=clock, grace_s=grace_s)
            for name, port_range in ranges.items()
        }
        self._claims: dict[ObjectKey, PortClaim] = {}
        self._waiting: set[ObjectKey] = set()
        self._version = 0

    def __repr__(self) -> str:
        return f"<PortTables {self._tables} services={len(self._claims)} waiting={len(self._waiting)}>"

    @property
    def version(self) -> int:
        """Rises whenever a port is assigned or released."""
        return self._version

    def is_exclusive(self, traffic_type: str | None) -> bool:
        """Whether services of this type have entrypoints of their own."""
        return traffic_type in self._tables

    def apply_claims(
        self, claims: Mapping[ObjectKey, PortClaim | None], *, is_everything: bool = False
    ) -> set[ObjectKey]:
        """Give services the entrypoints they want now, None for none; return the waiting ones that got one by this.

        What is no longer wanted is released first, so that a service at the limit can move its port. `is_everything`
        says that there are no services but these: whatever else holds a port loses it.
        """
        has_released = False
        for service, claim in claims.items():
            has_released |= self._replace_claim(service, claim)
        if is_everything:
            self._release_strangers()
        # A service waits only while its table is full, so that only a release can help it.
        waiting = self._waiting - claims.keys() if has_released else set()
        served = set()
        for service in sorted(waiting | claims.keys()):
            if self._claim_all(service) and service in waiting:
                served.add(service)
        return served

    def find_entrypoints(self, service: ObjectKey) -> dict[int, int]:
        """Map each port number that a service wanted to its entrypoint; those that did not fit are not in it."""
        claim = self._claims.get(service)
        if claim is None:
            return {}
        assigned = self._tables[claim.traffic_type].assigned
        owners = (PortOwner(service, port) for port in claim.ports)
        return {owner.port: assigned[owner] for owner in owners if owner in assigned}

    def list_assigned(self) -> dict[str, dict[PortOwner, int]]:
        """Copy the mapping of all tables that have one, as `assigned` takes it."""
        return {name: dict(table.assigned) for name, table in self._tables.items() if table.assigned}

    def _replace_claim(self, service: ObjectKey, claim: PortClaim | None) -> bool:
        """Remember what a service wants now; return whether it gave up an entrypoint by this."""
        old = self._claims.pop(service, None)
        self._waiting.discard(service)
        if claim is not None and claim.ports:
            self._claims[service] = claim
        if old is None:
            return False
        kept = claim.ports if claim and claim.traffic_type == old.traffic_type else ()
        return self._release(old.traffic_type, (PortOwner(service, port) for port in old.ports if port not in kept))

    def _release_strangers(self) -> None:
        for name, table in self._tables.items():
            strangers = [owner for owner in table.assigned if not self._wants(owner, name)]
            self._release(name, strangers)

    def _wants(self, owner: PortOwner, traffic_type: str) -> bool:
        claim = self._claims.get(owner.service)
        return claim is not None and claim.traffic_type == traffic_type and owner.port in claim.ports

    def _release(self, traffic_type: str, owners: Iterable[PortOwner]) -> bool:
        released = sum([self._tables[traffic_type].release(owner) for owner in owners])
        self._version += released
        return released > 0

    def _claim_all(self, service: ObjectKey) -> bool:
        """Claim what a service lacks; return whether it got anything new."""
        claim = self._claims.get(service)
        if claim is None:
            return False
        table = self._tables[claim.traffic_type]
        owners = [PortOwner(service, port) for port in claim.ports]
        lacking = [owner for owner in owners if owner not in table.assigned]
        got = [owner for owner in lacking if table.claim(owner) is not None]
        self._version += len(got)
        if len(got) < len(lacking):
            self._waiting.add(service)
        else:
            self._waiting.discard(service)
        return bool(got)
