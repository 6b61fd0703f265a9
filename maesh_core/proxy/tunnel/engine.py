"""The engine of tunnels in one worker: `interfaces.Tunnels`, and the part of a `ProtocolHandler` that it can be.

Takes contexts, rules, peers and a listening socket. It makes no decision about nodes, services or certificates: those
are the rules of the transport that uses it. Create it inside a running event loop.
"""

import asyncio
import socket
import ssl
from collections.abc import Sequence

from maesh_core.model.metrics import MetricFamily
from maesh_core.plugin_system.node import Node
from maesh_core.plugin_system.protocols import Listener
from maesh_core.plugin_system.transports import Delivery, Opening, OutgoingProtocol, Peer, TunnelRules
from maesh_core.proxy.tunnel.balance import WorkerBalance
from maesh_core.proxy.tunnel.environment import TunnelEnvironment
from maesh_core.proxy.tunnel.identity import check_context
from maesh_core.proxy.tunnel.limits import FORMER_LIMIT_S
from maesh_core.proxy.tunnel.listener import Doors
from maesh_core.proxy.tunnel.pacer import HandshakePacer
from maesh_core.proxy.tunnel.pool import PeerPool, PendingOpen
from maesh_core.proxy.tunnel.receiver import OpenDelivery, Receiver
from maesh_core.proxy.tunnel.reviews import StreamReviews


class TunnelEngine:
    """The tunnels of one worker, in both roles."""

    __slots__ = (
        "_balance",
        "_client",
        "_doors",
        "_is_draining",
        "_pacer",
        "_pools",
        "_receiver",
        "_reviews",
        "environment",
    )

    def __init__(self, node: Node, rules: TunnelRules, open_delivery: OpenDelivery | None = None) -> None:
        loop = asyncio.get_running_loop()
        self.environment = TunnelEnvironment(node, loop)
        self._pacer = HandshakePacer(loop)
        self._receiver = Receiver(self.environment, rules, open_delivery)
        self._doors = Doors(self._receiver, self._pacer)
        self._balance = WorkerBalance(node)
        self._reviews = StreamReviews(self._doors, loop)
        self._pools: dict[str, PeerPool] = {}
        self._client: ssl.SSLContext | None = None
        self._is_draining = False
        node.clock.add_sweep(self._sweep)

    def __repr__(self) -> str:
        return f"<TunnelEngine {len(self._pools)} nodes, {self._doors!r}>"

    # --- see Tunnels

    def use(self, client: ssl.SSLContext, server: ssl.SSLContext, *, trusts_less: bool = False) -> None:
        """Use these for new handshakes. Older connections are replaced, and end when their streams have ended.

        With `trusts_less`, they end after FORMER_LIMIT_S at the latest.
        Raises ValueError for a context that does not require TLS 1.3 and a certificate.
        """
        check_context(client)
        check_context(server)
        self._client = client
        self._doors.context = server
        self._doors.retire()
        for pool in self._pools.values():
            pool.replace(client)
        if trusts_less:
            ends_at = self.environment.clock.now + FORMER_LIMIT_S
            self._doors.limit(ends_at)
            for pool in self._pools.values():
                pool.limit(ends_at)

    def open(self, peer: Peer, delivery: Delivery, protocol: OutgoingProtocol) -> Opening:
        """Open a stream to a server on another node, over a connection that exists or a new one."""
        pool = self._pools.get(peer.node)
        if pool is None:
            pool = self._pools[peer.node] = PeerPool(self.environment, self._pacer, peer, self._client)
        else:
            pool.update(peer)
        opening = PendingOpen(pool, delivery, protocol)
        pool.open(opening)
        return opening

    def drop(self, node: str) -> None:
        """Reset the connections to and from a node that is gone or revoked."""
        pool = self._pools.pop(node, None)
        if pool is not None:
            pool.drop("dropped")
        self._doors.drop(node)

    def review(self) -> None:
        """Judge the open streams of other nodes again: the configuration has changed."""
        self._reviews.begin()

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Return the engine's metrics."""
        return self.environment.counters.collect_metrics()

    # --- see ProtocolHandler

    async def open_listener(self, sock: socket.socket, entrypoint: int) -> Listener:
        """Accept connections of other nodes from `sock`."""
        return self._doors.listen(sock, entrypoint)

    def start_draining(self) -> None:
        """Let other nodes open their streams elsewhere; those that are open continue."""
        self._is_draining = True
        self._doors.retire()

    def is_drained(self) -> bool:
        """Whether no other node has a connection to this one."""
        return not self._doors.links

    def count_under_way(self) -> int:
        """Count the connections of other nodes."""
        return len(self._doors.links)

    def abort(self) -> None:
        """Reset every connection."""
        self._doors.abort()
        for node in list(self._pools):
            self.drop(node)
        self._pacer.close()
        self._balance.close()

    def _sweep(self, now: float) -> None:
        self._receiver.sweep(now)
        self._doors.sweep(now)
        self._reviews.expire(now)
        self._reviews.sweep(now)
        if not self._is_draining:
            self._balance.sweep(now, self._doors.list_accepting())
        for node, pool in list(self._pools.items()):
            pool.sweep(now)
            if pool.is_unused:
                del self._pools[node]
