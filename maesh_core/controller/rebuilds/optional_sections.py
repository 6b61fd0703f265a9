"""The sections of the configuration that are no protocol's: `transport`, `clients` and `pods`, kept current.

Takes the nodes of rebuilt services and what has changed in the snapshot; returns the entries that differ, for the store
of revisions. A section that nothing needs stays empty, and costs nothing.
"""

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from maesh_core.controller.configuration.address_entries import AddressEntries
from maesh_core.controller.configuration.client_namespaces import ClientNamespaceTable
from maesh_core.controller.configuration.http import HttpTrafficType
from maesh_core.controller.configuration.pod_name_table import build_pod_names
from maesh_core.controller.configuration.revisions import EntryChanges, ObjectPath
from maesh_core.controller.configuration.transport import TransportTables
from maesh_core.controller.resources.kinds import ADDRESS_INDEX, TUNNEL_INDEX
from maesh_core.controller.resources.snapshot import Snapshot
from maesh_core.controller.resources.view import IndexRead, Read
from maesh_core.controller.topology.mesh_nodes import build_mesh_node, list_mesh_nodes
from maesh_core.controller.topology.pod_addresses import find_namespaces, find_pod_names, list_addresses
from maesh_core.controller.topology.rules import TopologyRules
from maesh_core.controller.topology.transport import find_account
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Pod
from maesh_core.model.topology import ServiceNode
from maesh_core.plugin_system.transports import TransportRules

Nodes = Mapping[ObjectKey, ServiceNode | None]
"""The nodes of services that were rebuilt; None for those that are gone."""


class OptionalSections:
    """The current entries of the sections."""

    __slots__ = ("_clients", "_rules", "_snapshot", "_transport", "pod_names")

    def __init__(
        self,
        snapshot: Snapshot,
        rules: TopologyRules,
        transport: TransportRules | None,
        *,
        sends_pod_names: bool,
        sends_namespaces: bool = False,
    ) -> None:
        self._snapshot = snapshot
        self._rules = rules
        self._transport = TransportTables(transport) if transport is not None or rules.names_clients else None
        self._clients = ClientNamespaceTable(names_hosts=sends_namespaces)
        self.pod_names = build_pod_names() if sends_pod_names else None
        """The names of pods that proxies get; None if no plugin asks for them."""

    def __repr__(self) -> str:
        return f"<OptionalSections {self._transport!r} {self._clients!r} {self.pod_names!r}>"

    @property
    def transport_nodes(self) -> Mapping[str, Any]:
        """The nodes that take part in the transport, by name, as it describes them."""
        return {} if self._transport is None else self._transport.described

    @property
    def client_namespaces(self) -> AddressEntries | None:
        """The namespaces of clients that proxies get for plain host names; None if no plugin asks for them."""
        return self._clients.plain

    def update(self, nodes: Nodes, affected: Collection[Read], *, is_everything: bool) -> EntryChanges:
        """Update all sections; return the entries that differ.

        Names of pods, and namespaces for plain host names, are collected, and only returned with other changes:
        `take_collected` returns the others.
        """
        entries = {
            **self._update_transport(nodes, affected, is_everything=is_everything),
            **self._update_clients(nodes, affected),
        }
        self._update_pod_names(affected, is_everything=is_everything)
        return {**entries, **self.take_collected()} if nodes or entries or is_everything else entries

    @property
    def collects(self) -> bool:
        """Whether any entries are collected."""
        return self.pod_names is not None or self.client_namespaces is not None

    def take_collected(self) -> EntryChanges:
        """Return the collected entries that have changed since the last call."""
        return {**({} if self.pod_names is None else self.pod_names.take_changes()), **self._clients.take_changes()}

    def refresh_transport(self) -> EntryChanges:
        """Return what the transport describes differently now."""
        return {} if self._transport is None else self._transport.refresh()

    def _update_transport(self, nodes: Nodes, affected: Collection[Read], *, is_everything: bool) -> EntryChanges:
        """Update the section `transport`; return the entries that differ."""
        if self._transport is None:
            return {}
        namespace = self._rules.mesh_namespace
        entries: dict[ObjectPath, msgspec.Struct | str | None] = {}
        snapshot = self._snapshot
        names = list_mesh_nodes(snapshot, namespace) if is_everything else _find_mesh_nodes(affected, namespace)
        if is_everything:
            entries.update(self._transport.refresh_shared())
        entries.update(self._transport.set_nodes({name: build_mesh_node(snapshot, namespace, name) for name in names}))
        for key, node in nodes.items():
            entries.update(self._transport.set_clients(key, node.clients if node else {}))
        if self._rules.names_clients:
            addresses = list_addresses(snapshot, snapshot.keys(Pod)) if is_everything else _find_addresses(affected)
            entries.update(self._transport.set_accounts({each: find_account(snapshot, each) for each in addresses}))
        return entries

    def _update_clients(self, nodes: Nodes, affected: Collection[Read]) -> EntryChanges:
        """Update the section `clients`; return what differs for rules for the clients of a namespace."""
        table, snapshot = self._clients, self._snapshot
        for key, node in nodes.items():
            if node is None:
                table.set_service(key, ())
                continue
            consumers = {each for port in node.ports for each in port.consumers}
            is_called = any(node.get_traffic_type(port) == HttpTrafficType.name for port in node.ports)
            table.set_service(key, consumers, is_called=is_called)
        changed = table.take_changed()
        if not (changed or table.is_needed):
            return {}
        addresses = _find_addresses(affected)
        if changed:
            addresses += list_addresses(snapshot, (each for each in snapshot.keys(Pod) if each.namespace in changed))
        return table.set_addresses(find_namespaces(snapshot, addresses))

    def _update_pod_names(self, affected: Collection[Read], *, is_everything: bool) -> None:
        """Collect the changes of the section `pods`."""
        if self.pod_names is not None:
            snapshot = self._snapshot
            addresses = list_addresses(snapshot, snapshot.keys(Pod)) if is_everything else _find_addresses(affected)
            self.pod_names.set_values(find_pod_names(snapshot, addresses))


def _find_mesh_nodes(affected: Collection[Read], namespace: str) -> list[str]:
    """List the nodes of the mesh whose pods have changed."""
    values = (read.value for read in affected if isinstance(read, IndexRead) and read.index_name == TUNNEL_INDEX)
    prefix = f"{namespace}/"
    return sorted(value.removeprefix(prefix) for value in map(str, values) if value.startswith(prefix))


def _find_addresses(affected: Collection[Read]) -> list[str]:
    """List the addresses whose pods have changed."""
    return sorted(
        str(read.value)
        for read in affected
        if isinstance(read, IndexRead) and read.type is Pod and read.index_name == ADDRESS_INDEX
    )
