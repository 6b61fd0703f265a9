"""The section `clients` of the configuration: the namespaces of pods by address, with their changes.

Takes what each service needs to know of its clients, and the namespace of each address; returns the entries that
differ, for the store of revisions. A namespace is sent if its clients have rules of their own, or if it has a service
that they may call by its name alone. An address that identifies no pod of one namespace has no entry: such clients use
the rules for all clients, and names alone do not reach anything. Changes for rules are returned at once, others are
collected.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from maesh_core.controller.configuration.address_entries import AddressEntries
from maesh_core.controller.configuration.revisions import EntryChanges, ObjectPath
from maesh_core.model.keys import ObjectKey, is_label
from maesh_core.model.optional_sections import CLIENTS, SOURCES

ADDRESSES_LIMIT: Final = 20_000
"""Limit of the addresses that are sent for names alone, about 0.7 MB. Those of clients with rules do not count."""


class NamespaceUses:
    """Namespaces, each with the number of services that need it."""

    __slots__ = ("_by_service", "counts")

    def __init__(self) -> None:
        self._by_service: dict[ObjectKey, frozenset[str]] = {}
        self.counts: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<NamespaceUses {sorted(self.counts)}>"

    def set_service(self, service: ObjectKey, namespaces: Iterable[str]) -> frozenset[str]:
        """Replace the namespaces that a service needs; return those that no service needs any more."""
        after = frozenset(namespaces)
        before = self._by_service.pop(service, frozenset())
        if after:
            self._by_service[service] = after
        for namespace in after - before:
            self.counts[namespace] = self.counts.get(namespace, 0) + 1
        gone = set()
        for namespace in before - after:
            self.counts[namespace] -= 1
            if not self.counts[namespace]:
                del self.counts[namespace]
                gone.add(namespace)
        return frozenset(gone)


class ClientNamespaceTable:
    """The namespaces that are needed, and the addresses that are sent.

    With `names_hosts`, clients may call the services of their namespace by name alone. `plain` has the entries for
    that, `_sent` those for rules.
    """

    __slots__ = ("_changed", "_has_lost", "_hosts", "_rules", "_sent", "plain")

    def __init__(self, *, names_hosts: bool = False, limit: int = ADDRESSES_LIMIT) -> None:
        self._rules = NamespaceUses()
        self._hosts = NamespaceUses()
        self._changed: set[str] = set()
        self._has_lost = False
        self._sent: dict[str, str] = {}
        self.plain: AddressEntries | None = None
        """The entries for names alone; None if there are none."""
        if names_hosts:
            self.plain = AddressEntries(CLIENTS, SOURCES, is_valid=is_label, what="namespaces", limit=limit)

    def __repr__(self) -> str:
        return f"<ClientNamespaceTable {len(self._sent)} addresses for rules, {self.plain!r}>"

    @property
    def is_needed(self) -> bool:
        """Whether any namespace is needed."""
        return bool(self._rules.counts or self._hosts.counts)

    def set_service(self, service: ObjectKey, consumers: Iterable[str], *, is_called: bool = False) -> None:
        """Replace what a service needs: the namespaces whose clients have rules for it, and with `is_called` its own.

        `is_called` means that clients of its namespace can call it by its name alone.
        """
        own = (service.namespace,) if is_called and self.plain is not None else ()
        for uses, wanted in ((self._rules, frozenset(consumers)), (self._hosts, frozenset(own))):
            new = wanted - uses.counts.keys()
            gone = uses.set_service(service, wanted)
            self._changed |= new | gone
            self._has_lost |= bool(gone)

    def take_changed(self) -> frozenset[str]:
        """Return the namespaces that have become needed, or are needed no more, since the last call."""
        changed = frozenset(self._changed)
        self._changed.clear()
        return changed

    def set_addresses(self, found: Mapping[str, str]) -> EntryChanges:
        """Set the namespaces of these addresses, which may be empty; return the entries for rules that differ.

        Addresses of namespaces that no service needs any more are removed.
        """
        changes: dict[ObjectPath, str | None] = {}
        plain: dict[str, str] = {}
        for address, namespace in found.items():
            if namespace in self._rules.counts and is_label(namespace):
                if self.plain is not None:
                    self.plain.release(address)
                if self._sent.get(address) != namespace:
                    self._sent[address] = changes[ObjectPath(CLIENTS, SOURCES, address)] = namespace
                continue
            self._remove(address, changes)
            plain[address] = namespace if namespace in self._hosts.counts else ""
        if self._has_lost:
            for address in [each for each, known in self._sent.items() if known not in self._rules.counts]:
                self._remove(address, changes)
        if self.plain is not None:
            self.plain.set_values(plain)
            if self._has_lost:
                self.plain.keep_values(self._hosts.counts)
        self._has_lost = False
        return changes

    def take_changes(self) -> EntryChanges:
        """Return the entries for names alone that have changed since the last call."""
        return {} if self.plain is None else self.plain.take_changes()

    def _remove(self, address: str, changes: dict[ObjectPath, str | None]) -> None:
        if self._sent.pop(address, None) is not None:
            changes[ObjectPath(CLIENTS, SOURCES, address)] = None
