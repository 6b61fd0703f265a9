"""The transport of a worker: which servers are reached through the tunnel to their node, and with which certificate.

Takes nodes and clients from the configuration, and credentials from the parent. Without valid credentials there is no
path to another node. The tunnels themselves are the core's engine.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from maesh_core.plugin import (
    ClientEntry,
    Delivery,
    MetricFamily,
    Opening,
    OutgoingProtocol,
    Path,
    PathRefusedError,
    Peer,
    RemoteServer,
    TunnelRules,
    Tunnels,
)
from maesh_mtls import MtlsSettings
from maesh_mtls.proxy.contexts import Contexts, build_contexts
from maesh_mtls.proxy.directory import Directory
from maesh_mtls.proxy.rules import Judge, MtlsTunnelRules
from maesh_mtls.trust import has_all
from maesh_mtls.wire import Credentials, NodeEntry

_STRICT = "strict"

_log = logging.getLogger(__name__)


class TunnelNode(Judge, Protocol):
    """What the transport needs of `Node`."""

    def build_tunnels(self, rules: TunnelRules) -> Tunnels:
        """Build the engine."""


class TunnelPath:
    """The way to the servers of one node. Implements `Path`."""

    __slots__ = ("_peer", "_tunnels")

    def __init__(self, tunnels: Tunnels, peer: Peer) -> None:
        self._tunnels = tunnels
        self._peer = peer

    def __repr__(self) -> str:
        return f"<TunnelPath to {self._peer.node}>"

    def open(self, delivery: Delivery, protocol: OutgoingProtocol) -> Opening:
        """Open a connection to a server."""
        return self._tunnels.open(self._peer, delivery, protocol)


class MtlsTransport:
    """Implements `ListeningTransport`."""

    name = "mtls"
    node_type: type[Any] = NodeEntry

    def __init__(self, node: TunnelNode, settings: MtlsSettings, *, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self.port = settings.port
        self._directory = Directory()
        self._tunnels = node.build_tunnels(MtlsTunnelRules(self._directory, node, checks_source=settings.check_source))
        self._paths: dict[str, TunnelPath] = {}
        self._valid_until = 0.0
        self._bundle = ""
        self._ending: asyncio.TimerHandle | None = None
        self._refused_payloads = 0

    def __repr__(self) -> str:
        return f"<MtlsTransport {self._directory!r}>"

    def apply_nodes(self, nodes: Mapping[str, Any], clients: Mapping[str, ClientEntry]) -> None:
        """Use these nodes and clients; connections of nodes that are gone, or have lost a certificate, are reset."""
        before = self._directory.nodes
        self._directory.apply(nodes, clients)
        self._paths = {
            name: self._paths[name] if name in self._paths and before.get(name) == entry else self._build_path(name)
            for name, entry in self._directory.nodes.items()
        }
        for name, entry in before.items():
            after = nodes.get(name)
            if after is None or after.identity != entry.identity or not set(after.revoked) <= set(entry.revoked):
                self._tunnels.drop(name)

    def _build_path(self, name: str) -> TunnelPath:
        entry = self._directory.nodes[name]
        return TunnelPath(self._tunnels, Peer(name, entry.addresses, entry.port, entry.identity, entry.revoked))

    def find_path(self, server: RemoteServer, mode: str) -> Path | None:
        """Return the tunnel to the server's node. Without one, it is reached in clear, or not at all if strict.

        Raises PathRefusedError.
        """
        path = self._paths.get(server.node)
        if path is not None and self._now() < self._valid_until:
            return path
        if mode != _STRICT:
            return None
        if path is None:
            raise PathRefusedError(f"the server's node {server.node} has no tunnel")
        raise PathRefusedError("this node has no valid certificate")

    def receive(self, payload: bytes) -> None:
        """Use new credentials; the last ones stay in use if they cannot be used."""
        try:
            credentials = msgspec.json.decode(payload, type=Credentials)
            contexts = build_contexts(credentials)
            trusts_less = not has_all(credentials.bundle, self._bundle)
        except (OSError, ValueError, msgspec.DecodeError) as error:  # the text must not contain the key
            self._refused_payloads += 1
            _log.error("the node's new certificate cannot be used: %s", type(error).__name__)
            return
        self._tunnels.use(contexts.client, contexts.server, trusts_less=trusts_less)
        self._bundle = credentials.bundle
        self._valid_until = credentials.not_after
        if self._ending is not None:
            self._ending.cancel()
        left_s = max(credentials.not_after - self._now(), 0.0)
        self._ending = asyncio.get_running_loop().call_later(left_s, self._end, contexts)

    def _end(self, contexts: Contexts) -> None:
        """Replace all connections when the certificate ends: those that are kept for further requests, too."""
        self._tunnels.use(contexts.client, contexts.server)

    async def open_listener(self, sock: socket.socket, entrypoint: int) -> Any:
        """Accept connections of other nodes."""
        return await self._tunnels.open_listener(sock, entrypoint)

    def start_draining(self) -> None:
        """Let other nodes open their streams elsewhere."""
        self._tunnels.start_draining()

    def is_drained(self) -> bool:
        """Whether no other node has a connection to this one."""
        return self._tunnels.is_drained()

    def count_under_way(self) -> int:
        """Count the connections of other nodes."""
        return self._tunnels.count_under_way()

    def abort(self) -> None:
        """Reset every connection."""
        self._tunnels.abort()

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Return the metrics of the engine."""
        return self._tunnels.collect_metrics()
