"""The section `clients` of the current configuration: the namespaces of clients, by address.

Takes updates; returns the complete mapping. The protocols whose routes depend on it use it before their new tables.
"""

import sys
from collections.abc import Mapping

from maesh_core.model.messages import Update
from maesh_core.model.optional_sections import CLIENTS
from maesh_core.proxy.routing.checks import parse_wire_path


class CurrentClients:
    """The namespaces in force."""

    __slots__ = ("namespaces",)

    def __init__(self) -> None:
        self.namespaces: Mapping[str, str] = {}

    def __repr__(self) -> str:
        return f"<CurrentClients {len(self.namespaces)} addresses>"

    def apply(self, update: Update) -> bool:
        """Use the namespaces of an update that was checked; return whether any has changed."""
        current = self.namespaces
        received = {address: sys.intern(namespace) for address, namespace in (update.clients or {}).items()}
        if update.full:
            if received == current:
                return False
            self.namespaces = received
            return True
        removed = [key for protocol, _, key in map(parse_wire_path, update.removed) if protocol == CLIENTS]
        has_changed = any(current.get(key) != received[key] for key in received) or any(
            key in current for key in removed
        )
        if has_changed:
            merged = {**current, **received}
            for key in removed:
                merged.pop(key, None)
            self.namespaces = merged
        return has_changed
