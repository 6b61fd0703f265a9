"""Traffic that is divided among several services' servers, by weight.

Takes what balances each part, and the parts' weights. Over as many picks as the weights add up to, each part gets
exactly its share; the part of a request that is tried again stays, for a retry is no pick. Implements
`balancer.Balancer`.
"""

from collections.abc import Collection, Sequence
from typing import Any, Generic

from maesh_core.proxy.upstream.balancer import Balancer, ServerT, SmoothWeightedRoundRobin


class DividedPart(Generic[ServerT]):
    """One part: what balances it, and its servers. Parts of one key are the same part."""

    __slots__ = ("balancer", "key", "servers")

    aside = None
    """Always in full use: whether its servers are is its balancer's to see."""
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


class Division(Generic[ServerT]):
    """Picks a part, then a server of it."""

    __slots__ = ("parts", "turns")

    def __init__(
        self, parts: Sequence[tuple[DividedPart[ServerT], int]], *, former: "Division[ServerT] | None" = None
    ) -> None:
        self.parts = tuple(part for part, _ in parts)
        self.turns: SmoothWeightedRoundRobin[DividedPart[ServerT]] = SmoothWeightedRoundRobin(parts)
        if former is not None:
            self.turns.follow(former.turns)

    def __repr__(self) -> str:
        return f"<Division {self.parts}>"

    def pick(self, tried: Collection[ServerT] = (), asker: Any = None) -> ServerT | None:
        """Pick a server; one more for the same request is of the part that its first one was of."""
        part = self._find_part(tried) if tried else None
        if part is None:
            part = self.turns.pick()
        return part.balancer.pick(tried, asker) if part is not None else None

    def _find_part(self, tried: Collection[ServerT]) -> DividedPart[ServerT] | None:
        first = next(iter(tried))
        return next((part for part in self.parts if first in part.servers), None)
