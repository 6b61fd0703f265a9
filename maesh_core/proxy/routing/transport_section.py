"""The section `transport` of the current configuration: the nodes and clients that the worker's transport uses.

Takes updates; merges them completely before anything is applied. Without a transport, the section is ignored: the modes
of services say what may be sent in clear.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from maesh_core.errors import UpdateRejectedError
from maesh_core.model.messages import Update
from maesh_core.model.optional_sections import NODES, SECTION_FORMS, TRANSPORT, TRANSPORT_CLIENTS
from maesh_core.model.transport import ClientEntry, TransportSection
from maesh_core.proxy.routing.checks import parse_wire_path
from maesh_core.proxy.routing.sections import merge_entries


class NodeUser(Protocol):
    """The transport, or what passes the nodes on to it."""

    @property
    def node_type(self) -> type[Any] | None:
        """The struct of nodes."""

    def apply_nodes(self, nodes: Mapping[str, Any], clients: Mapping[str, ClientEntry]) -> None:
        """Use these nodes, by name, and clients, by address."""


class CurrentSection:
    """The section in force; `user` is None without a transport."""

    __slots__ = ("_current", "_user")

    def __init__(self, user: NodeUser | None) -> None:
        self._user = user
        self._current: TransportSection | None = None

    def __repr__(self) -> str:
        current = self._current or TransportSection()
        return f"<CurrentSection {len(current.nodes)} nodes, {len(current.clients)} clients>"

    @property
    def node_type(self) -> type[Any] | None:
        """The struct into which nodes are decoded; None without a transport."""
        return None if self._user is None else self._user.node_type

    def merge(self, update: Update) -> TransportSection | None:
        """Return the section after an update; None if it does not change."""
        if self._user is None:
            return None
        received = update.transport or TransportSection()
        merged = received if update.full or self._current is None else _merge(self._current, received, update.removed)
        return None if merged == self._current else merged

    def apply(self, section: TransportSection | None) -> None:
        """Use the section that `merge` returned; raises UpdateRejectedError if the transport refuses it."""
        if self._user is None or section is None:
            return
        try:
            self._user.apply_nodes(section.nodes, section.clients)
        except Exception as error:  # the transport is a plugin's
            raise UpdateRejectedError(f"the transport refused it: {type(error).__name__}: {error}") from error
        self._current = section


def _merge(current: TransportSection, received: TransportSection, removed: Iterable[str]) -> TransportSection:
    keys: dict[str, list[str]] = {noun: [] for noun in SECTION_FORMS[TRANSPORT].nouns}
    for path in removed:
        protocol, noun, key = parse_wire_path(path)
        if protocol == TRANSPORT:
            keys[noun].append(key)
    return TransportSection(
        nodes=merge_entries(current.nodes, received.nodes, keys[NODES]),
        clients=merge_entries(current.clients, received.clients, keys[TRANSPORT_CLIENTS]),
    )
