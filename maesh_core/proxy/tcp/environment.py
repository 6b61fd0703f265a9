"""The state that all parts of one TCP handler share: clock, sockets, pipes and connections. Makes no decisions."""

import errno
from typing import Final, Generic, TypeVar

from maesh_core.plugin_system.node import Node
from maesh_core.proxy.http.tls import UpstreamTls
from maesh_core.proxy.network.slots import Slots
from maesh_core.proxy.tcp.flow import BUFFER_BYTES
from maesh_core.proxy.tcp.pipes import PipePool
from maesh_core.proxy.transport.paths import Paths

RelayT = TypeVar("RelayT")
LOCAL_ERRORS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Connect errors with causes on this node, which are no failures of the server."""


class Counters:
    """The counters of one service's connections; `failed_handshakes` is by reason (tls_connection.py)."""

    __slots__ = (
        "closed",
        "denied",
        "failed_connects",
        "failed_handshakes",
        "opened",
        "received_bytes",
        "refused",
        "sent_bytes",
    )

    def __init__(self) -> None:
        self.failed_handshakes: dict[str, int] = {}
        self.opened = self.closed = self.denied = self.refused = self.failed_connects = 0
        self.received_bytes = self.sent_bytes = 0

    def __repr__(self) -> str:
        return f"<Counters opened={self.opened} closed={self.closed}>"


class Environment(Generic[RelayT]):
    """The shared state of one handler."""

    __slots__ = (
        "buffer",
        "clock",
        "connecting",
        "exposed",
        "node",
        "paths",
        "pipes",
        "relays",
        "resetting",
        "slots",
        "sockets",
        "tls",
    )

    def __init__(self, node: Node, paths: Paths | None = None, tls: UpstreamTls | None = None) -> None:
        self.clock = node.clock
        self.paths = paths or Paths(node.settings.node, node.clock)
        self.tls = tls or UpstreamTls(root_ca="", is_verifying=True)
        self.sockets = node.sockets
        self.node = node
        self.slots = Slots()
        self.pipes = PipePool()
        self.buffer = memoryview(bytearray(BUFFER_BYTES))
        self.relays: set[RelayT] = set()
        self.connecting: set[RelayT] = set()
        """Relays that are not connected to a server yet."""
        self.exposed: dict[RelayT, float] = {}
        """Relays in clear whose service has become strict, and when they end."""
        self.resetting: set[RelayT] = set()
        """Relays with one side reset, while the other side has not received all earlier bytes yet."""

    def __repr__(self) -> str:
        return f"<Environment relays={len(self.relays)} connecting={len(self.connecting)}>"
