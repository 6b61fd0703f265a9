"""The section `transport` of the configuration: nodes as the transport describes them, and clients, with their changes.

Takes the nodes of the mesh and the clients of each service, and what the transport shares with all nodes; returns the
entries that differ, for the store of revisions. An address that several services name is one entry, which leaves with
the last of them.
"""

import logging
from collections.abc import Mapping
from typing import Any

import msgspec

from maesh_core.controller.configuration.revisions import EntryChanges, ObjectPath
from maesh_core.model.keys import ObjectKey
from maesh_core.model.optional_sections import NODES, SHARED, TRANSPORT, TRANSPORT_CLIENTS
from maesh_core.model.transport import ClientEntry
from maesh_core.plugin_system.transports import MeshNode, TransportRules

_log = logging.getLogger(__name__)


class TransportTables:
    """The current nodes, and the clients that services name. Without rules there are no nodes."""

    __slots__ = ("_clients", "_described", "_entries", "_failing", "_nodes", "_rules", "_shared")

    def __init__(self, rules: TransportRules | None) -> None:
        self._rules = rules
        self._nodes: dict[str, MeshNode] = {}
        self._described: dict[str, msgspec.Struct] = {}
        self._clients: dict[ObjectKey, Mapping[str, ClientEntry]] = {}
        self._entries: dict[str, dict[ObjectKey, ClientEntry]] = {}
        self._failing: dict[str, str] = {}
        self._shared: msgspec.Struct | None = None

    def __repr__(self) -> str:
        return f"<TransportTables {len(self._described)} nodes, {len(self._entries)} clients>"

    def set_nodes(self, nodes: Mapping[str, MeshNode | None]) -> EntryChanges:
        """Set these nodes, by name, or remove those that are None; only nodes that differ are described again."""
        changes: dict[ObjectPath, msgspec.Struct | None] = {}
        for name, node in nodes.items():
            if self._nodes.get(name) == node:
                continue
            if node is None:
                del self._nodes[name]
            else:
                self._nodes[name] = node
            described = None if node is None else self._describe(node)
            if described is not None:
                self._described[name] = described
                changes[ObjectPath(TRANSPORT, NODES, name)] = described
            elif self._described.pop(name, None) is not None:
                changes[ObjectPath(TRANSPORT, NODES, name)] = None
        return changes

    @property
    def described(self) -> Mapping[str, msgspec.Struct]:
        """The nodes that take part, as the transport describes them."""
        return self._described

    def refresh(self) -> EntryChanges:
        """Describe all nodes again, and what they share, because the transport may describe them differently now."""
        changes = self.refresh_shared()
        for name, node in self._nodes.items():
            before, described = self._described.get(name), self._describe(node)
            if described == before:
                continue
            changes[ObjectPath(TRANSPORT, NODES, name)] = described
            if described is not None:
                self._described[name] = described
            else:
                del self._described[name]
        return changes

    def refresh_shared(self) -> dict[ObjectPath, msgspec.Struct | None]:
        """Ask the transport again what all nodes share."""
        rules = self._rules
        if rules is None:
            return {}
        describe = getattr(rules, "describe_mesh", None)
        shared: msgspec.Struct | None = None
        try:
            shared = None if describe is None else describe()
        except Exception as error:  # a plugin's code may raise anything: nodes keep what they know
            _log.error("transport %s shares nothing new: %s: %s", rules.name, type(error).__name__, error)
            return {}
        if shared == self._shared:
            return {}
        self._shared = shared
        return {ObjectPath(TRANSPORT, SHARED, rules.name): shared}

    def set_clients(self, service: ObjectKey, clients: Mapping[str, ClientEntry]) -> EntryChanges:
        """Replace the clients that a service names."""
        before = self._clients.pop(service, {})
        if clients:
            self._clients[service] = clients
        changes: dict[ObjectPath, msgspec.Struct | None] = {}
        for address in sorted(before.keys() | clients.keys()):
            if before.get(address) == clients.get(address):
                continue
            named = self._entries.setdefault(address, {})
            named.pop(service, None)
            if address in clients:
                named[service] = clients[address]
            if not named:
                del self._entries[address]
            changes[ObjectPath(TRANSPORT, TRANSPORT_CLIENTS, address)] = named[min(named)] if named else None
        return changes

    def set_accounts(self, accounts: Mapping[str, ClientEntry | None]) -> EntryChanges:
        """Set these clients, by address, or remove those that are None, whatever services name."""
        changes: dict[ObjectPath, msgspec.Struct | str | None] = {}
        for address, entry in accounts.items():
            changes.update(self.set_clients(ObjectKey("", address), {} if entry is None else {address: entry}))
        return changes

    def _describe(self, node: MeshNode) -> msgspec.Struct | None:
        """Describe a node; one that cannot be described, or encoded, does not take part."""
        rules = self._rules
        if rules is None:
            return None
        try:
            described: Any = rules.describe_node(node)
            if described is not None and not msgspec.json.encode(described).startswith(b"{"):
                raise TypeError("not a struct")
        except Exception as error:  # a plugin's code may raise anything: only this node is affected
            text = f"{type(error).__name__}: {error}"
            if self._failing.get(node.name) != text:
                _log.error("node %s takes no part in transport %s: %s", node.name, rules.name, text)
            self._failing[node.name] = text
            return None
        self._failing.pop(node.name, None)
        found: msgspec.Struct | None = described
        return found
