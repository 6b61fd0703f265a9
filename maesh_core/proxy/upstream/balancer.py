"""Picks one of a service's servers.

Round-robin in the order given; with unequal weights the smooth weighted kind, in which heavy servers are spread out
(nginx). Knows nothing of connections: it returns whatever stands for a server.
"""

from collections.abc import Collection, Sequence
from typing import Generic, Protocol, TypeVar

ServerT = TypeVar("ServerT")


class Balancer(Protocol[ServerT]):
    """Gives the server for the next attempt."""

    def pick(self, tried: Collection[ServerT] = ()) -> ServerT | None:
        """Pick a server, one that was not tried if there is one; None when there are no usable servers."""


class RoundRobin(Generic[ServerT]):
    """Every server in turn."""

    __slots__ = ("_next", "_servers")

    def __init__(self, servers: Sequence[ServerT]) -> None:
        self._servers = tuple(servers)
        self._next = 0

    def pick(self, tried: Collection[ServerT] = ()) -> ServerT | None:
        """Pick the next server."""
        servers = self._servers
        if not servers:
            return None
        for _ in servers:
            index = self._next
            server = servers[index]
            self._next = index + 1 if index + 1 < len(servers) else 0
            if not tried or server not in tried:
                break
        return server


class SmoothWeightedRoundRobin(Generic[ServerT]):
    """Servers by weight, spread out: the one furthest behind its share comes next."""

    __slots__ = ("_credits", "_servers", "_total")

    def __init__(self, servers: Sequence[tuple[ServerT, int]]) -> None:
        self._servers = tuple((server, weight) for server, weight in servers if weight > 0)
        self._credits = [0] * len(self._servers)
        self._total = sum(weight for _, weight in self._servers)

    def pick(self, tried: Collection[ServerT] = ()) -> ServerT | None:
        """Pick the server with the most credit."""
        if not self._servers:
            return None
        for index, (_, weight) in enumerate(self._servers):
            self._credits[index] += weight
        ranks = range(len(self._servers))
        untried = [index for index in ranks if self._servers[index][0] not in tried] if tried else ranks
        best = max(untried or ranks, key=self._credits.__getitem__)
        self._credits[best] -= self._total
        return self._servers[best][0]


def build_balancer(servers: Sequence[tuple[ServerT, int]]) -> Balancer[ServerT]:
    """Choose the cheapest balancer that honours the weights; a server of weight 0 gets nothing."""
    weights = {weight for _, weight in servers}
    if len(weights) <= 1 and 0 not in weights:
        return RoundRobin([server for server, _ in servers])
    return SmoothWeightedRoundRobin(servers)
