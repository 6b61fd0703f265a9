"""The section `pods` of the configuration: the names of pods by address, with their changes.

Takes the names of addresses; returns the entries that differ, for the store of revisions. They are collected, because
pods that belong to no service change often, and each revision wakes every proxy. At most a fixed number of addresses is
sent. The others wait, and take the places of those that leave.
"""

import logging
from collections.abc import Mapping

from maesh_core.controller.configuration.revisions import EntryChanges, ObjectPath
from maesh_core.model.optional_sections import ADDRESSES, PODS
from maesh_core.model.pod_names import ADDRESSES_LIMIT, is_pod_name

_log = logging.getLogger(__name__)


class PodNameTable:
    """The addresses that are named. `sent_count` of them are in the section, `waiting_count` are above the limit."""

    __slots__ = ("_changes", "_has_warned", "_limit", "_sent", "_waiting")

    def __init__(self, limit: int = ADDRESSES_LIMIT) -> None:
        self._limit = limit
        self._sent: dict[str, str] = {}
        self._waiting: dict[str, str] = {}
        self._changes: dict[ObjectPath, str | None] = {}
        self._has_warned = False

    def __repr__(self) -> str:
        return f"<PodNameTable {self.sent_count} sent, {self.waiting_count} waiting>"

    @property
    def sent_count(self) -> int:
        """The number of addresses in the section."""
        return len(self._sent)

    @property
    def waiting_count(self) -> int:
        """The number of addresses that are left out because of the limit."""
        return len(self._waiting)

    def set_names(self, names: Mapping[str, str]) -> None:
        """Set the names of these addresses, as `namespace/name`; an empty one removes the address.

        A name that no pod of a cluster can have is not sent, because proxies would refuse it.
        """
        for address, name in names.items():
            if not is_pod_name(name):
                self._waiting.pop(address, None)
                if self._sent.pop(address, None) is not None:
                    self._changes[ObjectPath(PODS, ADDRESSES, address)] = None
            elif address not in self._sent and len(self._sent) >= self._limit:
                self._waiting[address] = name
            elif self._sent.get(address) != name:
                self._waiting.pop(address, None)
                self._send(address, name)
        self._fill_up()

    def take_changes(self) -> EntryChanges:
        """Return the entries that have changed since the last call."""
        changes, self._changes = self._changes, {}
        return changes

    def _send(self, address: str, name: str) -> None:
        self._sent[address] = self._changes[ObjectPath(PODS, ADDRESSES, address)] = name

    def _fill_up(self) -> None:
        """Send addresses that wait, the first one first, as long as there is room; say once that some are left out."""
        while self._waiting and len(self._sent) < self._limit:
            address = next(iter(self._waiting))
            self._send(address, self._waiting.pop(address))
        if self._waiting and not self._has_warned:
            self._has_warned = True
            _log.warning(
                "pods have more than %d addresses: proxies do not get the names of the others, now %d",
                self._limit,
                len(self._waiting),
            )
