"""Entrypoints of all exclusive traffic types: each service port gets one of its own, and keeps it.

Takes the entrypoints that services need (their claims), and returns the entrypoints that they have, and the waiting
services that got one. port_table.py has the states of an entrypoint. The mapping is stored in a file (mapping_file.py),
or in a cluster in its shadow services (cluster/shadow_services.py). Reads no resources and builds no configuration.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from maesh_core.controller.configuration.ranges import Entrypoints, PendingPorts
from maesh_core.controller.ports.port_table import GRACE_S, PortOwner, PortTable
from maesh_core.model.keys import ObjectKey
from maesh_core.plugin_system.protocols import PortRange


class PortClaim(NamedTuple):
    """What a service needs: an entrypoint of the range `name` for each of these port numbers.

    The name of a range is that of its traffic type, or of its own entrypoints (configuration/ranges.py).
    """

    name: str
    ports: tuple[int, ...]


class PortTables:
    """The tables of all exclusive ranges, by name, and the claims of each service: one for each range that it uses."""

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
        known = assigned or {}
        # From a file of another mesh: ports that no service claims are free at once.
        self._is_inherited = is_inherited
        self._tables = {
            name: PortTable(port_range, assigned=known.get(name), clock=clock, grace_s=grace_s, is_cluster=is_cluster)
            for name, port_range in ranges.items()
        }
        self._claims: dict[ObjectKey, tuple[PortClaim, ...]] = {}
        self._waiting: set[ObjectKey] = set()
        self._version = 0

    def __repr__(self) -> str:
        return f"<PortTables {self._tables} services={len(self._claims)} waiting={len(self._waiting)}>"

    @property
    def version(self) -> int:
        """A number that increases whenever a port is assigned or released."""
        return self._version

    def apply_claims(
        self, claims: Mapping[ObjectKey, Iterable[PortClaim]], *, is_everything: bool = False
    ) -> set[ObjectKey]:
        """Replace the claims of services; return the waiting services that got an entrypoint.

        Entrypoints that are no longer claimed are released first, so that a service at the limit can move its port.
        `is_everything` says that there are no other services: their entrypoints are released, too.
        """
        has_released = False
        for service, wanted in claims.items():
            has_released |= self._replace_claims(service, wanted)
        if is_everything:
            self._release_unclaimed()
        # A service waits only while its table is full: it gets a port only if one is released, or no longer reserved.
        has_expired = sum([table.expire_reservations() for table in self._tables.values()]) > 0
        waiting = self._waiting - claims.keys() if has_released or has_expired else set()
        return self._claim_each(waiting | claims.keys()) & waiting

    def find_entrypoints(self, service: ObjectKey) -> Entrypoints:
        """Map each port number that a service claims to its entrypoint, if it has one, by the name of the range.

        In a cluster, the entrypoints that are not written yet are left out.
        """
        return {
            name: {port: entrypoint for port, entrypoint in found.items() if self._is_usable(name, service, port)}
            for name, found in self.find_assigned(service).items()
        }

    def find_assigned(self, service: ObjectKey) -> Entrypoints:
        """Map each port number that a service claims to the entrypoint that is assigned to it, written or not."""
        found = {}
        for name, ports in self._claims.get(service, ()):
            assigned = self._tables[name].assigned
            found[name] = {port: assigned[owner] for port in ports if (owner := PortOwner(service, port)) in assigned}
        return found

    def find_pending(self, service: ObjectKey) -> PendingPorts:
        """List the port numbers that wait for an entrypoint: to be written, or to be assigned by the leader."""
        return {
            name: frozenset(port for port in ports if self._tables[name].is_pending(PortOwner(service, port)))
            for name, ports in self._claims.get(service, ())
        }

    def find_claims(self, service: ObjectKey) -> tuple[PortClaim, ...]:
        """Find the current claims of a service."""
        return self._claims.get(service, ())

    def find_written(self, service: ObjectKey) -> tuple[PortClaim, ...]:
        """Find what is written for a service, as the claims that match it."""
        found = (PortClaim(name, table.list_written(service)) for name, table in self._tables.items())
        return tuple(claim for claim in found if claim.ports)

    def apply_written(self, service: ObjectKey, written: Mapping[str, Mapping[int, int]]) -> set[ObjectKey]:
        """Apply a service's shadow service, by range; return the services whose entrypoints may differ.

        The service gets the entrypoints that are written for it; those that are no longer written become free.
        """
        results = [table.apply_written(service, written.get(name, {})) for name, table in self._tables.items()]
        changes = [each for each in results if each is not None]
        if not changes:
            return set()
        self._version += 1
        concerned = {service}.union(*(each.concerned for each in changes))
        self._waiting |= concerned & self._claims.keys()
        has_freed = any(each.has_freed for each in changes) and any(
            each.is_allocating for each in self._tables.values()
        )
        return concerned | self._claim_each(self._waiting if has_freed else self._waiting & concerned)

    def set_allocating(self, *, is_allocating: bool) -> set[ObjectKey]:
        """Start or stop assigning ports that are not written yet; return the services whose entrypoints may differ."""
        concerned: set[ObjectKey] = set()
        for table in self._tables.values():
            if is_allocating:
                table.is_allocating = True
            else:
                concerned |= table.stop_allocating()
        self._waiting |= concerned & self._claims.keys()
        waiting = set(self._waiting)  # also those that get none: they are no longer pending
        self._claim_each(waiting)
        return concerned | waiting

    def list_assigned(self) -> dict[str, dict[PortOwner, int]]:
        """Copy the mapping of all tables that are not empty, in the form of the argument `assigned`."""
        return {name: dict(table.assigned) for name, table in self._tables.items() if table.assigned}

    def _is_usable(self, name: str, service: ObjectKey, port: int) -> bool:
        return self._tables[name].is_usable(PortOwner(service, port))

    def _replace_claims(self, service: ObjectKey, wanted: Iterable[PortClaim]) -> bool:
        """Replace a service's claims; return whether it released an entrypoint."""
        old = self._claims.pop(service, ())
        self._waiting.discard(service)
        claims = tuple(claim for claim in wanted if claim.ports)
        if claims:
            self._claims[service] = claims
        has_released = False
        for name, ports in old:
            gone = (PortOwner(service, port) for port in ports if not self._is_claimed(service, port, name))
            has_released |= self._release(name, gone)
        return has_released

    def _release_unclaimed(self) -> None:
        for name, table in self._tables.items():
            unclaimed = [owner for owner in table.assigned if not self._is_claimed(*owner, name)]
            self._release(name, unclaimed)
            if self._is_inherited:
                table.expire_reservations(0)

    def _is_claimed(self, service: ObjectKey, port: int, name: str) -> bool:
        return any(claim.name == name and port in claim.ports for claim in self._claims.get(service, ()))

    def _release(self, name: str, owners: Iterable[PortOwner]) -> bool:
        released = sum([self._tables[name].release(owner) for owner in owners])
        self._version += released
        return released > 0

    def _claim_each(self, services: Iterable[ObjectKey]) -> set[ObjectKey]:
        """Claim the missing ports of services, in order of their keys; return the services that got one."""
        return {service for service in sorted(services) if self._claim_all(service)}

    def _claim_all(self, service: ObjectKey) -> bool:
        """Claim a service's missing ports, first those that are written for it; return whether it got one."""
        lacking, got = 0, 0
        for claim in self._claims.get(service, ()):
            table = self._tables[claim.name]
            owners = [owner for port in claim.ports if (owner := PortOwner(service, port)) not in table.assigned]
            owners.sort(key=lambda owner, table=table: not table.has_written(owner))  # type: ignore[misc]
            lacking += len(owners)
            got += sum(table.claim(owner) is not None for owner in owners)
        self._version += got
        if got < lacking:
            self._waiting.add(service)
        else:
            self._waiting.discard(service)
        return got > 0
