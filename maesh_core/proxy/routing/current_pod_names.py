"""The names of pods by address that a worker has, from the section `pods` of its configuration.

Takes updates; returns the pod that had an address when traffic began. An address may belong to another pod when the
traffic ends, so former pods are remembered, up to a limit. It decides about no traffic.
"""

import time
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from maesh_core.model.messages import Update
from maesh_core.model.optional_sections import PODS
from maesh_core.model.pod_names import ADDRESSES_LIMIT
from maesh_core.proxy.routing.checks import check_pod_name, parse_wire_path

FORMER_LIMIT: Final = 4096
"""Limit of addresses whose former pod is remembered. Traffic of pods that left earlier is not named."""


class _Former(NamedTuple):
    """The last pod that had an address and has it no more, with the times between which traffic was its own."""

    name: str
    since: float
    until: float


class CurrentPodNames:
    """The names in force. Implements `node.PodNames`; times are Unix times."""

    __slots__ = ("_clock", "_forgotten_at", "_former", "_names", "_since", "changed_at")

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._names: dict[str, str] = {}
        self._since: dict[str, float] = {}
        """When the pod at an address replaced another one; without an entry there was none."""
        self._former: dict[str, _Former] = {}
        self._forgotten_at = 0.0
        """When the last pod left that is not remembered any more: an address may have been that pod's until then."""
        self.changed_at = 0.0

    def __repr__(self) -> str:
        return f"<CurrentPodNames {len(self._names)} names, {len(self._former)} former>"

    def find(self, address: str, started_at: float) -> str:
        """Return the pod whose traffic from an address began at this time; empty if it is not known."""
        name = self._names.get(address, "")
        if name and started_at >= self._since.get(address, 0.0):
            return name
        former = self._former.get(address)
        return former.name if former is not None and former.since <= started_at < former.until else ""

    def check(self, update: Update) -> None:
        """Raise UpdateRejectedError if the update has an invalid entry. Entries that are in force are valid."""
        names = self._names
        for address, name in (update.pods or {}).items():
            if names.get(address) != name:
                check_pod_name(address, name)

    def apply(self, update: Update) -> None:
        """Use the names of an update that was checked. Above the limit, further addresses have no name."""
        received = update.pods or {}
        gone: Iterable[str] = self._names.keys() - received.keys() if update.full else _list_removed(update.removed)
        now, has_changed = self._clock(), False
        for address in gone:
            if address in self._names and address not in received:
                self._retire(address, now)
                has_changed = True
        for address, name in received.items():
            if self._names.get(address) != name:
                has_changed = self._set(address, name, now) or has_changed
        if has_changed:
            self.changed_at = max(now, self.changed_at)

    def _set(self, address: str, name: str, now: float) -> bool:
        """Name an address; return False if there is no room for it."""
        if address in self._names:
            self._retire(address, now)
        elif len(self._names) >= ADDRESSES_LIMIT:
            return False
        self._names[address] = name
        former = self._former.get(address)
        since = self._forgotten_at if former is None else former.until
        if since:
            self._since[address] = since
        return True

    def _retire(self, address: str, now: float) -> None:
        """Remember that a pod has lost its address."""
        self._former.pop(address, None)  # so that the order is that of leaving
        self._former[address] = _Former(self._names.pop(address), self._since.pop(address, 0.0), now)
        while len(self._former) > FORMER_LIMIT:
            forgotten = self._former.pop(next(iter(self._former)))
            self._forgotten_at = max(forgotten.until, self._forgotten_at)


def _list_removed(paths: Iterable[str]) -> list[str]:
    """List the addresses among the paths of removed objects."""
    parsed = map(parse_wire_path, paths)
    return [address for section, _, address in parsed if section == PODS]
