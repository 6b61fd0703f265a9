"""The transport of a worker: which servers are reached through the proxy of their node, and who may come in here.

Takes nodes and clients from the configuration, and the secret of all nodes.
"""

import asyncio
import socket
from collections.abc import Mapping, Sequence
from typing import Any, Final

from maesh_core.plugin import (
    ClientEntry,
    Delivery,
    DeliveryVerdict,
    MetricFamily,
    Node,
    Path,
    PathRefusedError,
    Refusal,
    RemoteServer,
)
from maesh_relay import RelayNode, RelaySettings
from maesh_relay.dialing import RelayPath
from maesh_relay.receiving import Receiver

STRICT: Final = "strict"
WAIT_S: Final = 2.0
"""How long a client that is not known yet is waited for: the node that sends may have a newer configuration."""
UNKNOWN_NODE = Refusal(403, "the node is not known")
FOREIGN_CLIENT = Refusal(403, "the client is not on the node that sends")


class RelayTransport:
    """Implements `ReviewingTransport`, and the rules of its receiver."""

    name = "relay"
    node_type: type[Any] = RelayNode

    def __init__(self, node: Node, settings: RelaySettings, secret: bytes) -> None:
        self.port = settings.port
        self._node = node
        self._secret = secret
        self._own_name: str = node.settings.node
        self._paths: dict[str, RelayPath] = {}
        self._clients: Mapping[str, ClientEntry] = {}
        self._updated = asyncio.Event()
        self._receiver = Receiver(
            self,
            node.open_delivery,
            node.clock,
            own_name=self._own_name,
            secret=secret,
            connect_timeout_s=node.settings.connect_timeout,
            connection_limit=node.settings.connection_limit,
        )

    def __repr__(self) -> str:
        return f"<RelayTransport {len(self._paths)} nodes, {self._receiver!r}>"

    # --- which way a connection goes

    def apply_nodes(self, nodes: Mapping[str, Any], clients: Mapping[str, ClientEntry]) -> None:
        """Use these nodes and clients."""
        self._clients = clients
        self._paths = {
            name: RelayPath(name, entry, own_name=self._own_name, secret=self._secret) for name, entry in nodes.items()
        }
        self._updated.set()
        self._updated = asyncio.Event()

    def find_path(self, server: RemoteServer, mode: str) -> Path | None:
        """Return the way to the server's node. Without one it is reached directly, or not at all if strict."""
        path = self._paths.get(server.node)
        if path is None and mode == STRICT:
            raise PathRefusedError(f"the server's node {server.node} has no relay")
        return path

    def receive(self, payload: bytes) -> None:
        """Do nothing: this plugin has no service in the node's parent."""

    # --- what other nodes may do here

    async def judge(self, node: str, delivery: Delivery) -> DeliveryVerdict:
        """Decide whether a node may open a connection: a client that it names must be on it."""
        if node not in self._paths:
            return UNKNOWN_NODE
        try:
            async with asyncio.timeout(WAIT_S):
                while not self._is_sender(node, delivery.client):
                    await self._updated.wait()
        except TimeoutError:
            return FOREIGN_CLIENT
        return await self._node.judge_delivery(node, delivery)

    def judge_again(self, node: str, delivery: Delivery) -> DeliveryVerdict:
        """Decide whether it may keep it."""
        if node not in self._paths:
            return UNKNOWN_NODE
        if not self._is_sender(node, delivery.client):
            return FOREIGN_CLIENT
        return self._node.judge_delivery_again(delivery)

    def _is_sender(self, node: str, client: str) -> bool:
        """Whether a node may send for a client; a delivery without one needs none."""
        if not client:
            return True
        entry = self._clients.get(client)
        return entry is not None and entry.node == node

    def review(self) -> None:
        """Judge open connections again."""
        self._receiver.review()

    # --- see ListeningTransport

    async def open_listener(self, sock: socket.socket, entrypoint: int) -> Any:
        """Accept connections of other nodes."""
        return await self._receiver.listen(sock)

    def start_draining(self) -> None:
        """Do nothing: nodes learn from the configuration that this one takes no part any more."""

    def is_drained(self) -> bool:
        """Whether no other node has a connection to this one."""
        return not self.count_under_way()

    def count_under_way(self) -> int:
        """Count the connections of other nodes."""
        return sum(not each.transport.is_closing() for each in self._receiver.accepted)

    def abort(self) -> None:
        """Reset every connection."""
        self._receiver.abort()

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Return the number of connections of other nodes."""
        help_text = "Open connections of other nodes to servers of this node."
        samples = [((), float(self.count_under_way()))]
        return [MetricFamily(name="maesh_relay_connections", type="gauge", help=help_text, labels=(), samples=samples)]
