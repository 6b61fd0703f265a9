"""Divides traffic by weight among the servers of several services.

Takes the balancer of each part, and the parts' weights. If the number of picks is the sum of the weights, each part has
got exactly its share. A retry stays in the part of its first attempt, and does not count as a pick. Implements
`balancer.Balancer`.
"""

from collections.abc import Collection, Sequence
from typing import Any, Generic

from maesh_core.proxy.balancing.balancer import Balancer, ServerT, SmoothWeightedRoundRobin


class DividedPart(Generic[ServerT]):
    """One part: its balancer and its servers. Parts with the same key are equal."""

    __slots__ = ("balancer", "key", "servers")

    aside = None
    """Always in full use; the part's balancer checks its servers."""
    under_way = 0
    """Not counted."""

    def __init__(self, key: str, balancer: Balancer[ServerT], servers: Collection[ServerT]) -> None:
        self.key = key
        self.balancer = balancer
        self.servers = frozenset(servers)

    def __repr__(self) -> str:
        return f"<DividedPart {self.key} {len(self.servers)} servers>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DividedPart) and other.key == self.key

    def __hash__(self) -> int:
        return hash(self.key)


class _PartRotation(SmoothWeightedRoundRobin[DividedPart[ServerT]]):
    """A faster form, at a third of the cost: parts are never set aside and never retried."""

    __slots__ = ("_total", "_weights")

    def __init__(self, parts: Sequence[tuple[DividedPart[ServerT], int]]) -> None:
        super().__init__(parts)
        self._weights = tuple(weight for _, weight in self._servers)
        self._total = sum(self._weights)

    def pick(self, tried: Collection[DividedPart[ServerT]] = (), exchange: Any = None) -> DividedPart[ServerT] | None:
        """Pick the part with the most credit; on a tie, the first. Parts of weight 0 are never picked."""
        credited = self._credits
        best, most = -1, 0
        for index, weight in enumerate(self._weights):
            if not weight:
                continue
            credit = credited[index] = credited[index] + weight
            if best < 0 or credit > most:
                best, most = index, credit
        if best < 0:
            return None
        credited[best] -= self._total
        return self._servers[best][0]


class Division(Generic[ServerT]):
    """Picks a part, then one of its servers. `picked` is the key of the part of the latest pick."""

    __slots__ = ("parts", "picked", "turns")

    def __init__(
        self, parts: Sequence[tuple[DividedPart[ServerT], int]], *, former: "Division[ServerT] | None" = None
    ) -> None:
        self.parts = tuple(part for part, _ in parts)
        self.turns = _PartRotation(parts)
        self.picked = ""
        if former is not None:
            self.turns.continue_from(former.turns)

    def __repr__(self) -> str:
        return f"<Division {self.parts}>"

    def pick(self, tried: Collection[ServerT] = (), exchange: Any = None) -> ServerT | None:
        """Pick a server; for a retry, one of the part of the first attempt."""
        own = (
            tried if exchange is None else exchange.tried
        )  # `tried` can also contain servers that the exchange may not use
        part = self._find_part(own) if own else None
        if part is None:
            part = self.turns.pick()
        if part is None:
            self.picked = ""
            return None
        self.picked = part.key
        return part.balancer.pick(tried, exchange)

    @property
    def servers(self) -> tuple[ServerT, ...]:
        """All servers of all parts, without duplicates."""
        return tuple(dict.fromkeys(server for part in self.parts for server in part.servers))

    def _find_part(self, tried: Collection[ServerT]) -> DividedPart[ServerT] | None:
        first = next(iter(tried))
        return next((part for part in self.parts if first in part.servers), None)
