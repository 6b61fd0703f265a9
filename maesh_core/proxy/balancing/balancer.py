"""Picks one of a service's servers.

Takes servers with their weights, and the previous balancer, whose rotation continues. It reads only whether a server is
set aside (health.py) and its load; it does not depend on connections. A server that is set aside is skipped until its
pause is over. If no other server is left, `pick_spare` decides.
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
    """The attributes of a server that the core's balancers read."""

    @property
    def aside(self) -> Aside | None:
        """None if the server is in full use."""

    @property
    def under_way(self) -> int:
        """The number of requests in progress at the server, or of its connections."""


ServerT = TypeVar("ServerT", bound=Balanced)


class Balancer(Protocol[ServerT]):
    """Picks the server for the next attempt."""

    __slots__ = ()

    def pick(self, tried: Collection[ServerT] = (), exchange: Any = None) -> ServerT | None:
        """Pick a server, preferably one that was not tried; return None if there is no usable server.

        `exchange` is the exchange, if its route has middlewares; the core's balancers ignore it.
        """

    @property
    def servers(self) -> Sequence[ServerT]:
        """All servers that it picks from."""


class RoundRobin(Balancer[ServerT]):
    """Picks the servers in rotation."""

    __slots__ = ("_next", "_servers")

    def __init__(self, servers: Sequence[ServerT]) -> None:
        self._servers = tuple(servers)
        self._next = 0

    def pick(self, tried: Collection[ServerT] = (), exchange: Any = None) -> ServerT | None:
        """Pick the next server."""
        servers = self._servers
        for _ in servers:
            index = self._next
            server = servers[index]
            self._next = index + 1 if index + 1 < len(servers) else 0
            if (not tried or server not in tried) and (server.aside is None or begin_due_trial(server.aside)):
                return server
        upcoming = self.upcoming
        self._next = (self._next + 1) % max(len(servers), 1)
        return pick_spare(upcoming, tried)

    @property
    def servers(self) -> tuple[ServerT, ...]:
        """All servers."""
        return self._servers

    @property
    def upcoming(self) -> tuple[ServerT, ...]:
        """All servers in rotation order, starting with the next one."""
        return self._servers[self._next :] + self._servers[: self._next]

    @property
    def position(self) -> int:
        """The index of the next server."""
        return self._next

    def continue_from(self, former: "RoundRobin[ServerT]") -> None:
        """Continue at the server that was next, or at the first one after it that still exists."""
        places = {server: index for index, server in enumerate(self._servers)}
        found = next((places[server] for server in former.upcoming if server in places), None)
        self._next = found if found is not None else former.position % max(len(self._servers), 1)


class SmoothWeightedRoundRobin(Balancer[ServerT]):
    """Picks servers by weight, evenly interleaved (as nginx): the server furthest behind its share is next."""

    __slots__ = ("_credits", "_servers")

    def __init__(self, servers: Sequence[tuple[ServerT, int]]) -> None:
        self._servers = tuple((server, weight) for server, weight in servers if weight > 0)
        self._credits = [0] * len(self._servers)

    def pick(self, tried: Collection[ServerT] = (), exchange: Any = None) -> ServerT | None:
        """Pick the server with the most credit; servers that are set aside get no credit."""
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
        """All servers with a weight above 0."""
        return tuple(server for server, _ in self._servers)

    @property
    def credits(self) -> dict[ServerT, int]:
        """The amount by which each server is behind its share."""
        return {server: credit for (server, _), credit in zip(self._servers, self._credits, strict=True)}

    def continue_from(self, former: "SmoothWeightedRoundRobin[ServerT]") -> None:
        """Continue with the previous credits, limited to the range of the new weights; their sum stays near 0."""
        known = former.credits
        total = sum(weight for _, weight in self._servers)
        kept = [min(max(known.get(server, 0), -total), total) for server, _ in self._servers]
        mean = sum(kept) // max(len(kept), 1)
        self._credits = [credit - mean for credit in kept]


class LeastRequest(Balancer[ServerT]):
    """Draws two servers by weight, and picks the one with fewer requests in progress relative to its weight.

    Two draws are within a constant factor of comparing all servers (Mitzenmacher, The Power of Two Choices). They also
    avoid sending all requests of one moment to the same server, as comparing all servers would.
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

    def pick(self, tried: Collection[ServerT] = (), exchange: Any = None) -> ServerT | None:
        """Pick the less loaded of two servers."""
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
        """All servers with a weight above 0."""
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
        """Compare all servers, because both drawn ones were set aside or tried, or there is only one."""
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
    """Build the cheapest balancer of a kind that respects the weights; servers of weight 0 are left out.

    `former` is the service's previous balancer. Its rotation continues, so that frequent changes do not send all
    traffic to the first server.
    """
    if kind in (LEAST_REQUEST, LEAST_CONNECTIONS):
        return LeastRequest(servers)
    weights = {weight for _, weight in servers}
    if len(weights) <= 1 and 0 not in weights:
        turns = RoundRobin([server for server, _ in servers])
        if isinstance(former, RoundRobin):
            turns.continue_from(former)
        return turns
    smooth = SmoothWeightedRoundRobin(servers)
    if isinstance(former, SmoothWeightedRoundRobin):
        smooth.continue_from(former)
    return smooth


def begin_due_trial(aside: Aside) -> bool:
    """Start the trial of a server if its pause is over; return whether it started."""
    if aside.is_due:
        aside.begin_trial()
        return True
    return False


def pick_spare(servers: Sequence[ServerT], tried: Collection[ServerT]) -> ServerT | None:
    """Pick a server when no untried one is in full use: a tried one in full use, or one set aside that may be tried.

    A single failure therefore never makes a service with one server unavailable. A server that stays unreachable is
    tried once per first pause. In between, there is no usable server, and the result is None.
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
