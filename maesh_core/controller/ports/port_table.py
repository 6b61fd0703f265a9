"""The entrypoints of one exclusive traffic type: each service port has one of its own, and keeps it.

Takes claims and releases of service ports and, in a cluster, the mapping that the shadow services contain. Returns each
owner's entrypoint, and whether proxies may use it. Reads no resources, builds no configuration, does no I/O.
`PortState` lists the states of an entrypoint, and `TRANSITIONS` how it changes from one to the other.
"""

import heapq
import time
from collections.abc import Callable, Mapping
from enum import Enum
from typing import NamedTuple

from maesh_core.model.keys import ObjectKey
from maesh_core.plugin_system.protocols import PortRange

GRACE_S = 60.0
"""A released entrypoint is reserved for this long: its clients should not reach the servers of another service."""

HIGHEST_PORT = 65535


class PortState(Enum):
    """The state of one entrypoint: who owns it, and who may claim it. Without a cluster, none is PENDING or WRITTEN."""

    FREE = "no owner; any service may claim it"
    PENDING = "has an owner, but is not written into its shadow service; proxies do not get it yet"
    CONFIRMED = "has an owner, and was written for it; proxies may get it"
    RESERVED = "no owner; kept for the last one until GRACE_S is over, or until no other entrypoint is left"
    WRITTEN = "no owner; a shadow service names it, so only the service of that one may claim it"


TRANSITIONS: Mapping[PortState, Mapping[PortState, str]] = {
    PortState.FREE: {
        PortState.PENDING: "the leader assigns it",
        PortState.CONFIRMED: "it is assigned without a cluster, or written for an owner that moves to it",
        PortState.WRITTEN: "it is written for a service that does not claim it",
    },
    PortState.PENDING: {
        PortState.CONFIRMED: "it is written, for its owner or for another one that moves to it",
        PortState.WRITTEN: "it is written for another service",
        PortState.RESERVED: "its owner releases it",
        PortState.FREE: "another controller leads now, or its owner moves to the entrypoint that is written for it",
    },
    PortState.CONFIRMED: {
        PortState.RESERVED: "its owner releases it",
        PortState.FREE: "its owner moves to the entrypoint that is written for it",
        PortState.WRITTEN: "it is written for another service, and this controller does not lead",
    },
    PortState.RESERVED: {
        PortState.PENDING: "the leader assigns it to its last owner, or at the limit to another one",
        PortState.CONFIRMED: "it is assigned without a cluster, or to the owner for which it is written",
        PortState.FREE: "GRACE_S is over",
        PortState.WRITTEN: "GRACE_S is over, and it is still written",
    },
    PortState.WRITTEN: {
        PortState.CONFIRMED: "the owner for which it is written claims it",
        PortState.PENDING: "the leader assigns it, at the limit, to another port of the service that it is written for",
        PortState.FREE: "it is no longer written",
    },
}


class PortOwner(NamedTuple):
    """A port of a service, by number."""

    service: ObjectKey
    port: int


class WrittenChange(NamedTuple):
    """The effect of a changed shadow service: services with another entrypoint, and whether one may be free now."""

    concerned: frozenset[ObjectKey]
    has_freed: bool


class _Reservation(NamedTuple):
    """A released entrypoint. A firm reservation never ends early: a write on its way may still name the entrypoint."""

    owner: PortOwner
    since: float
    is_firm: bool


class PortTable:
    """The entrypoints of one exclusive traffic type.

    In a cluster (`is_cluster`) the shadow services store the mapping. Only the leader assigns entrypoints that are not
    written yet (`is_allocating`). It keeps CONFIRMED entrypoints and rewrites shadow services that differ; the other
    controllers adopt what is written. An entrypoint that is written for one service is never assigned to another.
    """

    __slots__ = (
        *("_assigned", "_clock", "_confirmed", "_first", "_grace_s", "_heap", "_in_heap", "_is_cluster", "_limit"),
        *("_owners", "_reservations", "_reserved_ports", "_written", "_written_owners", "is_allocating"),
    )

    def __init__(
        self,
        port_range: PortRange,
        *,
        assigned: Mapping[PortOwner, int] | None = None,
        clock: Callable[[], float] = time.monotonic,
        grace_s: float = GRACE_S,
        is_cluster: bool = False,
    ) -> None:
        self._first = port_range.first
        self._limit = min(port_range.limit, HIGHEST_PORT + 1 - port_range.first)
        self._assigned = {owner: port for owner, port in (assigned or {}).items() if self._is_in_range(port)}
        self._owners = {port: owner for owner, port in self._assigned.items()}
        self._confirmed = set[PortOwner]() if is_cluster else set(self._assigned)
        # The heap has every FREE port, and ports that were assigned since they were added.
        self._heap = [port for port in range(self._first, self._first + self._limit) if port not in self._owners]
        self._in_heap = set(self._heap)
        self._reservations: dict[int, _Reservation] = {}  # by port, in the order of their release
        self._reserved_ports: dict[PortOwner, int] = {}
        self._clock = clock
        self._grace_s = grace_s
        self._is_cluster = is_cluster
        self._written: dict[ObjectKey, dict[int, int]] = {}
        self._written_owners: dict[
            int, dict[PortOwner, None]
        ] = {}  # by port, in order of arrival; the first one counts
        self.is_allocating = not is_cluster

    def __repr__(self) -> str:
        return (
            f"<PortTable {self._limit} from {self._first} assigned={len(self._assigned)} "
            f"reserved={len(self._reservations)}>"
        )

    @property
    def assigned(self) -> Mapping[PortOwner, int]:
        """The port of every owner, PENDING or CONFIRMED."""
        return self._assigned

    def find_state(self, port: int) -> PortState:
        """Derive the state of a port of the range."""
        owner = self._owners.get(port)
        if owner is not None:
            return PortState.CONFIRMED if owner in self._confirmed else PortState.PENDING
        if port in self._reservations:
            return PortState.RESERVED
        return PortState.WRITTEN if port in self._written_owners else PortState.FREE

    def is_usable(self, owner: PortOwner) -> bool:
        """Whether proxies may get an owner's port."""
        return owner in self._confirmed

    def is_pending(self, owner: PortOwner) -> bool:
        """Whether an owner waits for its port to be written, or for the leader to assign one."""
        if not self._is_cluster or owner in self._confirmed:
            return False
        return owner in self._assigned or not self.is_allocating

    def claim(self, owner: PortOwner) -> int | None:
        """Assign a port to an owner, and return it, or None if none is left.

        The first of these that is available: the port it has, the one that is written for it, the one that is reserved
        for it, the lowest free one, the one that was reserved first, one that is written for its service.
        """
        port = self._assigned.get(owner)
        if port is None:
            self.expire_reservations()
            port = self._choose_port(owner)
            if port is not None:
                self._assign(owner, port)
        return port

    def release(self, owner: PortOwner) -> bool:
        """Reserve an owner's port; return whether it had one."""
        port = self._assigned.pop(owner, None)
        if port is None:
            return False
        del self._owners[port]
        is_firm = owner not in self._confirmed
        self._confirmed.discard(owner)
        self._reservations[port] = _Reservation(owner, self._clock(), is_firm)
        self._reserved_ports[owner] = port
        return True

    def expire_reservations(self, grace_s: float | None = None) -> bool:
        """End reservations that are as old as `grace_s`, or GRACE_S; return whether there were any."""
        now, grace_s = self._clock(), self._grace_s if grace_s is None else grace_s
        expired = []
        for port, reservation in self._reservations.items():
            if now - reservation.since < grace_s:
                break
            expired.append(port)
        for port in expired:
            self._drop_reservation(port)
            self._add_if_free(port)
        return bool(expired)

    def apply_written(self, service: ObjectKey, written: Mapping[int, int]) -> WrittenChange | None:
        """Apply a service's shadow service, port number to entrypoint; return None if nothing has changed."""
        before = self._written.pop(service, {})
        after = {number: port for number, port in written.items() if self._is_in_range(port)}
        if after:
            self._written[service] = after
        if before == after:
            return None
        concerned: set[ObjectKey] = set()
        gone = before.items() - after.items()
        for number, port in sorted(after.items() - before.items()):
            self._written_owners.setdefault(port, {})[PortOwner(service, number)] = None
            concerned |= self._adopt(port)
        for number, port in sorted(gone):
            concerned |= self._remove_written(PortOwner(service, number), port)
        return WrittenChange(frozenset(concerned), bool(gone))

    def has_written(self, owner: PortOwner) -> bool:
        """Whether any port is written for an owner."""
        return owner.port in self._written.get(owner.service, ())

    def list_written(self, service: ObjectKey) -> tuple[int, ...]:
        """List a service's port numbers for which an entrypoint is written."""
        return tuple(self._written.get(service, ()))

    def stop_allocating(self) -> set[ObjectKey]:
        """Drop PENDING assignments and adopt what is written, because another controller leads now.

        Return the services with another entrypoint than before.
        """
        self.is_allocating = False
        pending = [owner for owner in self._assigned if owner not in self._confirmed]
        concerned = {owner.service for owner in pending}
        for owner in pending:
            self._unassign(owner)
        for port in self._written_owners:
            concerned |= self._adopt(port)
        return concerned

    def _remove_written(self, owner: PortOwner, port: int) -> set[ObjectKey]:
        """Record that a port is no longer written for an owner; return the services with another entrypoint."""
        owners = self._written_owners[port]
        del owners[owner]
        if owners:
            return self._adopt(port)
        del self._written_owners[port]
        self._add_if_free(port)
        return set()

    def _adopt(self, port: int) -> set[ObjectKey]:
        """Make the owner for which a port is written its owner; return the services with another entrypoint.

        The leader keeps CONFIRMED entrypoints instead, and rewrites the shadow service.
        """
        owner, holder = next(iter(self._written_owners[port])), self._owners.get(port)
        if holder == owner:
            self._confirmed.add(owner)
            return set()
        if self.is_allocating and (owner in self._confirmed or holder in self._confirmed):
            return set()
        concerned = set()
        if holder is not None:
            self._unassign(holder)
            concerned.add(holder.service)
        if owner in self._assigned:  # otherwise the owner gets the port when it claims one
            self._unassign(owner)
            self._assign(owner, port)
            concerned.add(owner.service)
        return concerned

    def _assign(self, owner: PortOwner, port: int) -> None:
        """Make a port PENDING, or CONFIRMED if it needs not be written or is written for this owner."""
        self._drop_reservation(port)
        self._assigned[owner] = port
        self._owners[port] = owner
        if not self._is_cluster or self._find_written_owner(port) == owner:
            self._confirmed.add(owner)

    def _unassign(self, owner: PortOwner) -> None:
        """Make an owner's port FREE, or WRITTEN if it is written."""
        port = self._assigned.pop(owner)
        del self._owners[port]
        self._confirmed.discard(owner)
        self._add_if_free(port)

    def _choose_port(self, owner: PortOwner) -> int | None:
        written = self._written.get(owner.service, {})
        own = written.get(owner.port)
        if own is not None and self._is_available_to(owner, own):
            return own
        if not self.is_allocating:
            return None
        reserved = self._reserved_ports.get(owner)
        if reserved is not None and self._is_available_to(owner, reserved):
            return reserved
        while self._heap:
            port = heapq.heappop(self._heap)
            self._in_heap.discard(port)
            # A port that is skipped here is added again when it becomes FREE.
            if port not in self._reservations and self._is_available_to(owner, port):
                return port
        for port, reservation in self._reservations.items():
            if not reservation.is_firm and self._is_available_to(owner, port):
                return port
        for number, port in written.items():
            # A service at the limit moves its port: its shadow service is rewritten as a whole.
            if self._is_available_to(PortOwner(owner.service, number), port):
                return port
        return None

    def _find_written_owner(self, port: int) -> PortOwner | None:
        return next(iter(self._written_owners.get(port, ())), None)

    def _is_available_to(self, owner: PortOwner, port: int) -> bool:
        return port not in self._owners and self._find_written_owner(port) in (None, owner)

    def _add_if_free(self, port: int) -> None:
        if self.find_state(port) is PortState.FREE and port not in self._in_heap:
            self._in_heap.add(port)
            heapq.heappush(self._heap, port)

    def _drop_reservation(self, port: int) -> None:
        reservation = self._reservations.pop(port, None)
        if reservation is not None and self._reserved_ports.get(reservation.owner) == port:
            del self._reserved_ports[reservation.owner]

    def _is_in_range(self, port: int) -> bool:
        return self._first <= port < self._first + self._limit
