"""The hooks for traffic types."""

from collections.abc import Sequence
from typing import Protocol

from maesh_core.plugin_system.hookspecs.markers import hookspec
from maesh_core.plugin_system.node import Node
from maesh_core.plugin_system.protocols import ProtocolHandler, TrafficType

# --- protocol --------------------------------------------------------------------------------------------------------


class ProtocolSpecs(Protocol):
    """Hooks for traffic types."""

    @hookspec
    def maesh_traffic_types(self) -> Sequence[TrafficType]:
        """Return the controller's half of protocols. Controller; once, at start; raising stops the start."""

    @hookspec
    def maesh_protocol_handlers(self, node: Node) -> Sequence[ProtocolHandler]:
        """Return the proxy's half of protocols. Proxy; once, at start, in its event loop; raising stops the start."""
