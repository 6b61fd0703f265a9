"""Entrypoints of exclusive traffic types: each service port gets one of its own, and keeps it.

Takes what services want and gives each its entrypoints; says which waiting services got one. The mapping is kept in a
file (mapping_file.py) or in a cluster's shadow services (cluster/shadow_services.py). Reads no resources and builds no
configuration.
"""

import heapq
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from maesh_core.model.keys import ObjectKey
from maesh_core.plugin_system.hookspecs import PortRange

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


class Seen(NamedTuple):
    """What came of an observation: whose entrypoints differ now, and whether one may have become free."""

    concerned: frozenset[ObjectKey]
    has_freed: bool


class _Rest(NamedTuple):
    """A freed port, still kept for who had it. A firm rest is never cut short: a write may yet bring the port back."""

    owner: PortOwner
    freed_at: float
    is_firm: bool


class PortTable:
    """The entrypoints of one exclusive traffic type. A port is free, resting, or assigned to one owner.

    Where the mapping is kept in a cluster's shadow services (`is_cluster`), the table knows what is *written* there: an
    owner has the use of its port once that is written, which confirms it; a port that is written for one service is
    never given to another; and only who writes, the leader, gives out new ones. What the leader gave out and nobody has
    been told of yet gives way to what turns out to be written; what is confirmed stands.
    """

    __slots__ = (
        *("_assigned", "_clock", "_confirmed", "_first", "_free", "_grace_s", "_is_cluster", "_limit", "_offered"),
        *("_owners", "_rested", "_resting", "_said", "_written", "is_allocating"),
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
        self._assigned = {owner: port for owner, port in (assigned or {}).items() if self._has(port)}
        self._owners = {port: owner for owner, port in self._assigned.items()}
        # Every port that is free is offered; what is offered may have been taken since.
        self._free = [port for port in range(self._first, self._first + self._limit) if port not in self._owners]
        self._offered = set(self._free)
        self._resting: dict[int, _Rest] = {}  # in the order they were freed
        self._rested: dict[PortOwner, int] = {}
        self._clock = clock
        self._grace_s = grace_s
        self._is_cluster = is_cluster
        self._written: dict[ObjectKey, dict[int, int]] = {}
        self._said: dict[int, dict[PortOwner, None]] = {}  # for whom a port is written, in order; the first is believed
        self._confirmed: set[PortOwner] = set()
        self.is_allocating = not is_cluster

    def __repr__(self) -> str:
        return (
            f"<PortTable {self._limit} from {self._first} assigned={len(self._assigned)} resting={len(self._resting)}>"
        )

    @property
    def assigned(self) -> Mapping[PortOwner, int]:
        """Every owner's port, whether or not it is written yet."""
        return self._assigned

    def is_usable(self, owner: PortOwner) -> bool:
        """Whether an owner's port may be told to proxies."""
        return owner in self._assigned and (not self._is_cluster or owner in self._confirmed)

    def is_pending(self, owner: PortOwner) -> bool:
        """Whether an owner's port is to come."""
        if not self._is_cluster or owner in self._confirmed:
            return False
        return owner in self._assigned or not self.is_allocating

    def claim(self, owner: PortOwner) -> int | None:
        """Give an owner its port: the one it has, is written, or had, the lowest free, or the longest resting.

        None: no port left.
        """
        port = self._assigned.get(owner)
        if port is None:
            self.end_rests()
            port = self._choose(owner)
            if port is not None:
                self._assign(owner, port)
        return port

    def release(self, owner: PortOwner) -> bool:
        """Lay an owner's port to rest; return whether it had one."""
        port = self._assigned.pop(owner, None)
        if port is None:
            return False
        del self._owners[port]
        is_firm = self._is_cluster and owner not in self._confirmed
        self._confirmed.discard(owner)
        self._resting[port] = _Rest(owner, self._clock(), is_firm)
        self._rested[owner] = port
        return True

    def end_rests(self, grace_s: float | None = None) -> bool:
        """Free the ports that have rested for long enough, or for `grace_s`; return whether there were any."""
        now, grace_s = self._clock(), self._grace_s if grace_s is None else grace_s
        ended = []
        for port, rest in self._resting.items():
            if now - rest.freed_at < grace_s:
                break
            ended.append(port)
        for port in ended:
            self._end_rest(port)
            self._offer(port)
        return bool(ended)

    def observe(self, service: ObjectKey, written: Mapping[int, int]) -> Seen | None:
        """Take what a service's shadow service says now, port to entrypoint; None if that is nothing new.

        Who writes the mapping goes on with what is confirmed; everybody else follows what is written.
        """
        before = self._written.pop(service, {})
        after = {number: port for number, port in written.items() if self._has(port)}
        if after:
            self._written[service] = after
        if before == after:
            return None
        concerned: set[ObjectKey] = set()
        gone = before.items() - after.items()
        for number, port in sorted(after.items() - before.items()):
            self._said.setdefault(port, {})[PortOwner(service, number)] = None
            concerned |= self._follow(port)
        for number, port in sorted(gone):
            concerned |= self._take_back(PortOwner(service, number), port)
        return Seen(frozenset(concerned), bool(gone))

    def has_written(self, owner: PortOwner) -> bool:
        """Whether any port is written for an owner."""
        return owner.port in self._written.get(owner.service, ())

    def list_written(self, service: ObjectKey) -> tuple[int, ...]:
        """List a service's ports that are written."""
        return tuple(self._written.get(service, ()))

    def follow_written(self) -> set[ObjectKey]:
        """Take back what was given out and is not written, and follow what is; another writes the mapping now.

        Return the services that this concerns.
        """
        self.is_allocating = False
        unwritten = [owner for owner in self._assigned if owner not in self._confirmed]
        concerned = {owner.service for owner in unwritten}
        for owner in unwritten:
            self._unassign(owner)
        for port in self._said:
            concerned |= self._follow(port)
        return concerned

    def _take_back(self, owner: PortOwner, port: int) -> set[ObjectKey]:
        """Forget that a port is written for an owner."""
        said = self._said[port]
        del said[owner]
        if said:
            return self._follow(port)
        del self._said[port]
        self._offer(port)
        return set()

    def _follow(self, port: int) -> set[ObjectKey]:
        """Have a port's owner be the one for whom it is written, unless it must stay; return whom that changed."""
        owner, holder = next(iter(self._said[port])), self._owners.get(port)
        if holder == owner:
            self._confirmed.add(owner)
            return set()
        if self.is_allocating and (owner in self._confirmed or holder in self._confirmed):
            return set()  # what is written is put right
        concerned = set()
        if holder is not None:
            self._unassign(holder)
            concerned.add(holder.service)
        if owner in self._assigned:  # otherwise the port is adopted when it is claimed
            self._unassign(owner)
            self._assign(owner, port)
            concerned.add(owner.service)
        return concerned

    def _assign(self, owner: PortOwner, port: int) -> None:
        self._end_rest(port)
        self._assigned[owner] = port
        self._owners[port] = owner
        if self._find_believed(port) == owner:
            self._confirmed.add(owner)

    def _unassign(self, owner: PortOwner) -> None:
        port = self._assigned.pop(owner)
        del self._owners[port]
        self._confirmed.discard(owner)
        self._offer(port)

    def _choose(self, owner: PortOwner) -> int | None:
        written = self._written.get(owner.service, {})
        own = written.get(owner.port)
        if own is not None and self._is_free_for(owner, own):
            return own
        if not self.is_allocating:
            return None
        rested = self._rested.get(owner)
        if rested is not None and self._is_free_for(owner, rested):
            return rested
        while self._free:
            port = heapq.heappop(self._free)
            self._offered.discard(port)
            # What is passed over is offered again when it is free.
            if port not in self._resting and self._is_free_for(owner, port):
                return port
        for port, rest in self._resting.items():
            if not rest.is_firm and self._is_free_for(owner, port):
                return port
        for number, port in written.items():
            # A service at the limit moves its port: its shadow service is rewritten as a whole.
            if self._is_free_for(PortOwner(owner.service, number), port):
                return port
        return None

    def _find_believed(self, port: int) -> PortOwner | None:
        return next(iter(self._said.get(port, ())), None)

    def _is_free_for(self, owner: PortOwner, port: int) -> bool:
        return port not in self._owners and self._find_believed(port) in (None, owner)

    def _offer(self, port: int) -> None:
        is_taken = port in self._owners or port in self._resting or port in self._said
        if not is_taken and port not in self._offered:
            self._offered.add(port)
            heapq.heappush(self._free, port)

    def _end_rest(self, port: int) -> None:
        rest = self._resting.pop(port, None)
        if rest is not None and self._rested.get(rest.owner) == port:
            del self._rested[rest.owner]

    def _has(self, port: int) -> bool:
        return self._first <= port < self._first + self._limit


class PortTables:
    """The tables of all exclusive traffic types, and what each service wants. Strangers' inherited ports never rest."""

    __slots__ = ("_claims", "_is_inherited", "_tables", "_version", "_waiting")

    def __init__(
        self,
        ranges: Mapping[str, PortRange],
        *,
        assigned: Mapping[str, Mapping[PortOwner, int]] | None = None,
        clock: Callable[[], float] = time.monotonic,
        grace_s: float = GRACE_S,
        is_cluster: bool = False,
        is_inherited: bool = False,
    ) -> None:
        known, self._is_inherited = assigned or {}, is_inherited  # from a file that other meshes wrote to
        self._tables = {
            name: PortTable(port_range, assigned=known.get(name), clock=clock, grace_s=grace_s, is_cluster=is_cluster)
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
        # A service waits only while its table is full: only a release can help it, or the end of a rest.
        has_ended = bool([name for name, table in self._tables.items() if table.end_rests()])
        waiting = self._waiting - claims.keys() if has_released or has_ended else set()
        return self._claim_each(waiting | claims.keys()) & waiting

    def find_entrypoints(self, service: ObjectKey) -> dict[int, int]:
        """Map each port number that a service wanted to its entrypoint; those that did not fit are not in it.

        In a cluster those are left out, too, that are not written yet.
        """
        claim = self._claims.get(service)
        found = self.find_assigned(service)
        if claim is None:
            return {}
        table = self._tables[claim.traffic_type]
        return {number: port for number, port in found.items() if table.is_usable(PortOwner(service, number))}

    def find_assigned(self, service: ObjectKey) -> dict[int, int]:
        """Map each port number that a service wanted to the entrypoint that was given to it, written or not."""
        claim = self._claims.get(service)
        if claim is None:
            return {}
        assigned = self._tables[claim.traffic_type].assigned
        return {port: assigned[owner] for port in claim.ports if (owner := PortOwner(service, port)) in assigned}

    def find_pending(self, service: ObjectKey) -> frozenset[int]:
        """Name the port numbers whose entrypoints are to come: not written yet, or not given out by who writes."""
        claim = self._claims.get(service)
        if claim is None:
            return frozenset()
        table = self._tables[claim.traffic_type]
        return frozenset(port for port in claim.ports if table.is_pending(PortOwner(service, port)))

    def find_claim(self, service: ObjectKey) -> PortClaim | None:
        """Give what a service wanted last."""
        return self._claims.get(service)

    def find_written(self, service: ObjectKey) -> PortClaim | None:
        """Give what is written of a service, as a claim: what it would want if it wanted nothing else."""
        for name, table in self._tables.items():
            ports = table.list_written(service)
            if ports:
                return PortClaim(name, ports)
        return None

    def observe(self, service: ObjectKey, written: Mapping[str, Mapping[int, int]]) -> set[ObjectKey]:
        """Take what a service's shadow service says, by traffic type; return the services that this concerns.

        What the service lacks and is written now, it has; what is no longer written another may have.
        """
        seen = [table.observe(service, written.get(name, {})) for name, table in self._tables.items()]
        news = [each for each in seen if each is not None]
        if not news:
            return set()
        self._version += 1
        concerned = {service}.union(*(each.concerned for each in news))
        self._waiting |= concerned & self._claims.keys()
        has_freed = any(each.has_freed for each in news) and any(each.is_allocating for each in self._tables.values())
        return concerned | self._claim_each(self._waiting if has_freed else self._waiting & concerned)

    def set_allocating(self, *, is_allocating: bool) -> set[ObjectKey]:
        """Begin or end to give out ports that are not written yet; return the services that this concerns."""
        concerned: set[ObjectKey] = set()
        for table in self._tables.values():
            if is_allocating:
                table.is_allocating = True
            else:
                concerned |= table.follow_written()
        self._waiting |= concerned & self._claims.keys()
        waiting = set(self._waiting)  # those that get none, too: theirs is not to come any more
        self._claim_each(waiting)
        return concerned | waiting

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
            if self._is_inherited:
                table.end_rests(0)

    def _wants(self, owner: PortOwner, traffic_type: str) -> bool:
        claim = self._claims.get(owner.service)
        return claim is not None and claim.traffic_type == traffic_type and owner.port in claim.ports

    def _release(self, traffic_type: str, owners: Iterable[PortOwner]) -> bool:
        released = sum([self._tables[traffic_type].release(owner) for owner in owners])
        self._version += released
        return released > 0

    def _claim_each(self, services: Iterable[ObjectKey]) -> set[ObjectKey]:
        """Claim what services lack, in order; return those that got anything new."""
        return {service for service in sorted(services) if self._claim_all(service)}

    def _claim_all(self, service: ObjectKey) -> bool:
        """Claim what a service lacks, first what is written for it; return whether it got anything new."""
        claim = self._claims.get(service)
        if claim is None:
            return False
        table = self._tables[claim.traffic_type]
        owners = [PortOwner(service, port) for port in claim.ports]
        lacking = [owner for owner in owners if owner not in table.assigned]
        lacking.sort(key=lambda owner: not table.has_written(owner))
        got = [owner for owner in lacking if table.claim(owner) is not None]
        self._version += len(got)
        if len(got) < len(lacking):
            self._waiting.add(service)
        else:
            self._waiting.discard(service)
        return bool(got)
