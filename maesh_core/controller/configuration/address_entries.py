"""Entries of a section of the configuration that say something about addresses, with their changes.

Takes the values of addresses; returns the entries that differ, for the store of revisions. They are collected, because
pods change often, and each revision wakes every proxy. At most a fixed number of addresses is sent. The others wait,
and take the places of those that leave.
"""

import logging
from collections.abc import Callable, Collection, Mapping

from maesh_core.controller.configuration.revisions import EntryChanges, ObjectPath

_log = logging.getLogger(__name__)


class AddressEntries:
    """The addresses that have an entry. `sent_count` of them are in the section, `waiting_count` are above the limit.

    `is_valid` says which values are sent, because proxies refuse others. `what` names the values, for the log.
    """

    __slots__ = ("_changes", "_has_warned", "_is_valid", "_limit", "_noun", "_section", "_sent", "_waiting", "_what")

    def __init__(self, section: str, noun: str, *, is_valid: Callable[[str], bool], what: str, limit: int) -> None:
        self._section = section
        self._noun = noun
        self._is_valid = is_valid
        self._what = what
        self._limit = limit
        self._sent: dict[str, str] = {}
        self._waiting: dict[str, str] = {}
        self._changes: dict[ObjectPath, str | None] = {}
        self._has_warned = False

    def __repr__(self) -> str:
        return f"<AddressEntries of {self._section}: {self.sent_count} sent, {self.waiting_count} waiting>"

    @property
    def sent_count(self) -> int:
        """The number of addresses in the section."""
        return len(self._sent)

    @property
    def waiting_count(self) -> int:
        """The number of addresses that are left out because of the limit."""
        return len(self._waiting)

    def set_values(self, values: Mapping[str, str]) -> None:
        """Set the values of these addresses; one that is empty or not valid removes the address."""
        for address, value in values.items():
            if not self._is_valid(value):
                self._waiting.pop(address, None)
                if self._sent.pop(address, None) is not None:
                    self._changes[ObjectPath(self._section, self._noun, address)] = None
            elif address not in self._sent and len(self._sent) >= self._limit:
                self._waiting[address] = value
            elif self._sent.get(address) != value:
                self._waiting.pop(address, None)
                self._send(address, value)
        self._fill_up()

    def release(self, address: str) -> None:
        """Forget an address without a change, because something else writes its entry now."""
        self._waiting.pop(address, None)
        self._sent.pop(address, None)
        self._changes.pop(ObjectPath(self._section, self._noun, address), None)

    def keep_values(self, kept: Collection[str]) -> None:
        """Remove all addresses with other values than these."""
        known = {**self._sent, **self._waiting}
        self.set_values(dict.fromkeys((address for address, value in known.items() if value not in kept), ""))

    def take_changes(self) -> EntryChanges:
        """Return the entries that have changed since the last call."""
        changes, self._changes = self._changes, {}
        return changes

    def _send(self, address: str, value: str) -> None:
        self._sent[address] = self._changes[ObjectPath(self._section, self._noun, address)] = value

    def _fill_up(self) -> None:
        """Send addresses that wait, the first one first, as long as there is room; say once that some are left out."""
        while self._waiting and len(self._sent) < self._limit:
            address = next(iter(self._waiting))
            self._send(address, self._waiting.pop(address))
        if self._waiting and not self._has_warned:
            self._has_warned = True
            _log.warning(
                "pods have more than %d addresses: proxies do not get the %s of the others, now %d",
                self._limit,
                self._what,
                len(self._waiting),
            )
