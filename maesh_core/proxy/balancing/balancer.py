"""Picks one of a service's servers.

Takes servers with their weights, and the balancer that they had before, whose rotation goes on. Of a server it reads
whether it is set aside (health.py) and how much it has to do; it knows nothing of connections. A server that is set
aside is passed over until its pause is over. Where nothing better is left, see `pick_spare`.
"""

import random
from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from itertools import accumulate
from typing import Any, Final, Protocol, TypeVar

from maesh_core.model.configuration import LEAST_CONNECTIONS, LEAST_REQUEST, ROUND_ROBIN
from maesh_core.proxy.balancing.health import Aside

KINDS: Final = frozenset({ROUND_ROBIN, LEAST_REQUEST, LEAST_CONNECTIONS})


class Balanced(Protocol):
    """What a balancer of the core reads of a server."""

    @property
    def aside(self) -> Aside | None:
        """None in full use."""

    @property
    def under_way(self) -> int:
        """How many requests the server has to answer, or connections it has."""


ServerT = TypeVar("ServerT", bound=Balanced)


class Balancer(Protocol[ServerT]):
    """Gives the server for the next attempt."""

    __slots__ = ()

    def pick(self, tried: Collection[ServerT] = (), asker: Any = None) -> ServerT | None:
        """Pick a server, one that was not tried if there is one; None when there are no usable servers.

        `asker` is the exchange that asks, where it has middlewares; balancers of the core do not look at it.
        """

    @property
    def servers(self) -> Sequence[ServerT]:
        """All servers that it chooses among."""


class RoundRobin(Balancer[ServerT]):
    """Every server in turn."""

    __slots__ = ("_next", "_servers")

    def __init__(self, servers: Sequence[ServerT]) -> None:
        self._servers = tuple(servers)
        self._next = 0

    def pick(self, tried: Collection[ServerT] = (), asker: Any = None) -> ServerT | None:
        """Pick the next server."""
        servers = self._servers
        for _ in servers:
            index = self._next
            server = servers[index]
            self._next = index + 1 if index + 1 < len(servers) else 0
            if (not tried or server not in tried) and (server.aside is None or begin_due_trial(server.aside)):
                return server
        coming = self.coming
        self._next = (self._next + 1) % max(len(servers), 1)
        return pick_spare(coming, tried)

    @property
    def servers(self) -> tuple[ServerT, ...]:
        """All servers."""
        return self._servers

    @property
    def coming(self) -> tuple[ServerT, ...]:
        """All servers, from the next one on."""
        return self._servers[self._next :] + self._servers[: self._next]

    @property
    def position(self) -> int:
        """Where the next one stands."""
        return self._next

    def follow(self, former: "RoundRobin[ServerT]") -> None:
        """Go on with the server that was next, or with the first behind it that is still there."""
        places = {server: index for index, server in enumerate(self._servers)}
        found = next((places[server] for server in former.coming if server in places), None)
        self._next = found if found is not None else former.position % max(len(self._servers), 1)


class SmoothWeightedRoundRobin(Balancer[ServerT]):
    """Servers by weight, spread out (nginx): the one furthest behind its share comes next."""

    __slots__ = ("_credits", "_servers")

    def __init__(self, servers: Sequence[tuple[ServerT, int]]) -> None:
        self._servers = tuple((server, weight) for server, weight in servers if weight > 0)
        self._credits = [0] * len(self._servers)

    def pick(self, tried: Collection[ServerT] = (), asker: Any = None) -> ServerT | None:
        """Pick the server with the most credit; those that are set aside get none."""
        usable: list[int] = []
        total = 0
        for index, (server, weight) in enumerate(self._servers):
            if server.aside is None:
                usable.append(index)
                total += weight
                self._credits[index] += weight
            elif server not in tried and begin_due_trial(server.aside):
                return server
        untried = [index for index in usable if self._servers[index][0] not in tried] if tried else usable
        if not usable:
            return pick_spare([server for server, _ in self._servers], tried)
        best = max(untried or usable, key=self._credits.__getitem__)
        self._credits[best] -= total
        return self._servers[best][0]

    @property
    def servers(self) -> tuple[ServerT, ...]:
        """All servers that have weight."""
        return tuple(server for server, _ in self._servers)

    @property
    def credits(self) -> dict[ServerT, int]:
        """How far each server is behind its share."""
        return {server: credit for (server, _), credit in zip(self._servers, self._credits, strict=True)}

    def follow(self, former: "SmoothWeightedRoundRobin[ServerT]") -> None:
        """Take over credits, so far as they fit these weights; they add up to about nothing, as they always do."""
        known = former.credits
        total = sum(weight for _, weight in self._servers)
        kept = [min(max(known.get(server, 0), -total), total) for server, _ in self._servers]
        mean = sum(kept) // max(len(kept), 1)
        self._credits = [credit - mean for credit in kept]


class LeastRequest(Balancer[ServerT]):
    """Of two servers drawn by weight, the one with the fewest requests under way for its weight.

    Two draws come within a constant of looking at all of them (Mitzenmacher, The Power of Two Choices), and do not
    send every request of a moment to one server, as looking at all of them does.
    """

    __slots__ = ("_random", "_servers", "_starts", "_total", "_weights")

    def __init__(
        self, servers: Sequence[tuple[ServerT, int]], *, random_share: Callable[[], float] = random.random
    ) -> None:
        self._servers = tuple(server for server, weight in servers if weight > 0)
        self._weights = tuple(weight for _, weight in servers if weight > 0)
        self._starts = (0, *accumulate(self._weights))[: len(self._weights)]
        self._total = sum(self._weights)
        self._random = random_share

    def pick(self, tried: Collection[ServerT] = (), asker: Any = None) -> ServerT | None:
        """Pick the better of two servers."""
        servers = self._servers
        if len(servers) > 1:
            first, second = self._draw_two()
            if self._has_less(second, first):
                first, second = second, first
            for index in (first, second):
                server = servers[index]
                if (not tried or server not in tried) and (server.aside is None or begin_due_trial(server.aside)):
                    return server
        return self._pick_of_all(tried)

    @property
    def servers(self) -> tuple[ServerT, ...]:
        """All servers that have weight."""
        return self._servers

    def _draw_two(self) -> tuple[int, int]:
        """Draw two different servers, each by its weight among those left."""
        starts = self._starts
        first = bisect_right(starts, self._random() * self._total) - 1
        weight = self._weights[first]
        place = self._random() * (self._total - weight)
        if place >= starts[first]:
            place += weight
        return first, bisect_right(starts, place) - 1

    def _has_less(self, one: int, other: int) -> bool:
        weights, servers = self._weights, self._servers
        return servers[one].under_way * weights[other] < servers[other].under_way * weights[one]

    def _pick_of_all(self, tried: Collection[ServerT]) -> ServerT | None:
        """Look at every server: both drawn ones were set aside or tried, or there is but one."""
        usable: list[int] = []
        for index, server in enumerate(self._servers):
            if server.aside is None:
                usable.append(index)
            elif server not in tried and begin_due_trial(server.aside):
                return server
        if not usable:
            return pick_spare(self._servers, tried)
        untried = [index for index in usable if self._servers[index] not in tried]
        loads = {index: self._servers[index].under_way / self._weights[index] for index in untried or usable}
        return self._servers[min(loads, key=loads.__getitem__)]


AnyBalancer = RoundRobin[ServerT] | SmoothWeightedRoundRobin[ServerT] | LeastRequest[ServerT]


def build_balancer(
    servers: Sequence[tuple[ServerT, int]],
    kind: str = ROUND_ROBIN,
    *,
    former: AnyBalancer[ServerT] | None = None,
) -> AnyBalancer[ServerT]:
    """Choose the cheapest balancer of a kind that honours the weights; a server of weight 0 gets nothing.

    `former` is what the service had before: a rotation goes on where it stands, so that changes that follow each other
    quickly do not send everything to the first server.
    """
    if kind in (LEAST_REQUEST, LEAST_CONNECTIONS):
        return LeastRequest(servers)
    weights = {weight for _, weight in servers}
    if len(weights) <= 1 and 0 not in weights:
        turns = RoundRobin([server for server, _ in servers])
        if isinstance(former, RoundRobin):
            turns.follow(former)
        return turns
    smooth = SmoothWeightedRoundRobin(servers)
    if isinstance(former, SmoothWeightedRoundRobin):
        smooth.follow(former)
    return smooth


def begin_due_trial(aside: Aside) -> bool:
    """Begin the trial of a server if its pause is over; True where it was."""
    if aside.is_due:
        aside.begin_trial()
        return True
    return False


def pick_spare(servers: Sequence[ServerT], tried: Collection[ServerT]) -> ServerT | None:
    """Pick where no untried server is in full use: a tried one that is, else one that is set aside but may be tried.

    A service so never loses its only server to a single failure, and asks one that stays away once in each first
    pause. Between these there is no usable server: None.
    """
    spare: ServerT | None = None
    for server in servers:
        if server.aside is None:
            return server
        if (spare is None or (spare in tried and server not in tried)) and server.aside.is_due_alone:
            spare = server
    if spare is not None and spare.aside is not None:
        spare.aside.begin_trial()
    return spare
