"""The hooks for how proxies reach servers on other nodes."""

from collections.abc import Sequence
from typing import Protocol

from maesh_core.plugin_system.hookspecs.markers import hookspec
from maesh_core.plugin_system.node import Node
from maesh_core.plugin_system.transports import NodeService, ParentNode, Transport, TransportRules

# --- transports ------------------------------------------------------------------------------------------------------


class TransportSpecs(Protocol):
    """Hooks for how proxies reach servers on other nodes, such as over encrypted connections."""

    @hookspec
    def maesh_transport_rules(self) -> Sequence[TransportRules]:
        """Return the controller's half of a transport. Controller; once, at start; raising stops the start."""

    @hookspec
    def maesh_transports(self, node: Node) -> Sequence[Transport]:
        """Return the proxy's half of a transport. Proxy; once, at start, in its event loop; raising stops the start."""

    @hookspec
    def maesh_node_services(self, parent: ParentNode) -> Sequence[NodeService]:
        """Return tasks of the proxy's parent. Proxy; once, at start, in its event loop; raising stops the start."""
