"""The section `clients` of the configuration: the namespaces of pods by address, with their changes.

Takes the namespaces whose clients have rules of their own, by service, and the namespace of each address; returns the
entries that differ, for the store of revisions. Only pods of these namespaces are sent, so that a mesh without such
rules has no such section. An address that identifies no pod of one namespace has no entry: such clients use the rules
for all clients.
"""

from collections.abc import Iterable, Mapping

from maesh_core.controller.configuration.revisions import EntryChanges, ObjectPath
from maesh_core.model.keys import ObjectKey
from maesh_core.model.optional_sections import CLIENTS, SOURCES


class ClientNamespaceTable:
    """The namespaces with rules of their own, and the addresses that are sent."""

    __slots__ = ("_by_service", "_sent", "_users")

    def __init__(self) -> None:
        self._by_service: dict[ObjectKey, frozenset[str]] = {}
        self._users: dict[str, int] = {}
        self._sent: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<ClientNamespaceTable {len(self._sent)} addresses of {len(self._users)} namespaces>"

    @property
    def namespaces(self) -> frozenset[str]:
        """The namespaces whose clients have rules of their own."""
        return frozenset(self._users)

    def set_service(self, service: ObjectKey, namespaces: Iterable[str]) -> None:
        """Replace the namespaces whose clients have rules for a service."""
        after = frozenset(namespaces)
        before = self._by_service.pop(service, frozenset())
        if after:
            self._by_service[service] = after
        for namespace in after - before:
            self._users[namespace] = self._users.get(namespace, 0) + 1
        for namespace in before - after:
            self._users[namespace] -= 1
            if not self._users[namespace]:
                del self._users[namespace]

    def set_addresses(self, found: Mapping[str, str]) -> EntryChanges:
        """Set the namespaces of these addresses, which may be empty; return the entries that differ.

        Addresses of namespaces that no service names any more are removed.
        """
        changes: dict[ObjectPath, str | None] = {}
        wanted = {address: namespace for address, namespace in found.items() if namespace in self._users}
        stale = [each for each, known in self._sent.items() if known not in self._users]
        for address in (*(each for each in found if each not in wanted), *stale):
            if address not in wanted and self._sent.pop(address, None) is not None:
                changes[ObjectPath(CLIENTS, SOURCES, address)] = None
        for address, namespace in wanted.items():
            if self._sent.get(address) != namespace:
                self._sent[address] = changes[ObjectPath(CLIENTS, SOURCES, address)] = namespace
        return changes
