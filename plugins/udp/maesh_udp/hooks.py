"""The hooks of the proxy's half. pluggy marks the functions of hooks, and cannot mark those that mypyc compiles."""

from collections.abc import Sequence

from maesh_core.plugin import Node, ProtocolHandler, hookimpl
from maesh_udp import UdpSettings
from maesh_udp.proxy import UdpHandler


class ProxyHalf:
    """What a proxy loads."""

    def __init__(self, settings: UdpSettings) -> None:
        self._settings = settings

    @hookimpl
    def maesh_protocol_handlers(self, node: Node) -> Sequence[ProtocolHandler]:
        """Return the protocol."""
        return [UdpHandler(self._settings, node)]
