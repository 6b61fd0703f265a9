"""What the incoming tunnels of a worker share: the rules, the nodes with open tunnels, and streams that wait.

Counts the tunnels and streams of each node, and ends waits at each tick of the clock.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from maesh_core.plugin_system.transports import Delivery, OutgoingProtocol, Refusal, TunnelRules
from maesh_core.proxy.tunnel.environment import TunnelEnvironment
from maesh_core.proxy.tunnel.limits import SHARE_OF_CONNECTIONS

OpenDelivery = Callable[[Delivery], Awaitable[OutgoingProtocol | Refusal]]
"""Builds the protocol that serves a stream whose requests are judged, when its server accepts connections."""


class Waiting(Protocol):
    """A stream with a deadline (pod_connection.py)."""

    __slots__ = ()

    def check(self, now: float) -> None:
        """End the wait if it has lasted too long."""


class Receiver:
    """The shared state of incoming tunnels."""

    __slots__ = ("closing", "environment", "now", "open_delivery", "rules", "streams", "tunnels", "waiting")

    def __init__(
        self, environment: TunnelEnvironment, rules: TunnelRules, open_delivery: OpenDelivery | None = None
    ) -> None:
        self.environment = environment
        self.rules = rules
        self.now: Callable[[], float] = time.time
        """The time by which certificates end."""
        self.open_delivery = open_delivery
        """None if this process cannot judge requests; such streams are refused."""
        self.waiting: set[Waiting] = set()
        """Streams that are not connected to their pods yet."""
        self.closing: set[Waiting] = set()
        """Streams that have ended, whose last bytes wait for their pods."""
        self.streams: dict[str, int] = {}
        """Open streams by node."""
        self.tunnels: dict[str, int] = {}
        """Open tunnels by node."""

    def __repr__(self) -> str:
        return f"<Receiver tunnels={self.tunnels} streams={self.streams}>"

    def has_room(self, node: str) -> bool:
        """Whether a node may open another stream: all nodes share the limit of connections."""
        limit: int = self.environment.node.settings.connection_limit
        return limit <= 0 or self.streams.get(node, 0) < max(1, limit // SHARE_OF_CONNECTIONS)

    def sweep(self, now: float) -> None:
        """End waits that have lasted too long."""
        for stream in (*self.waiting, *self.closing):
            stream.check(now)


def change_count(counts: dict[str, int], key: str, change: int) -> None:
    """Add to a count, and forget it at 0."""
    count = counts.get(key, 0) + change
    if count > 0:
        counts[key] = count
    else:
        counts.pop(key, None)
