"""Limits of the page that signs certificates.

Nobody can use up the limit of a node without its token, because it is counted after the proof. What is not proven is
limited by the sender's address, and some places are only for addresses of proxies. All tables are limited.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

IN_FLIGHT_LIMIT: Final = 6
IN_FLIGHT_LIMIT_PER_ADDRESS: Final = 3
"""Requests whose proof is being checked at the same time, in all and from one address."""
RESERVED_LIMIT: Final = 4
RESERVED_LIMIT_PER_ADDRESS: Final = 1
"""Further ones from addresses of proxies that are known, in all and from one address."""
BAD_TOKENS_LIMIT: Final = 60
BAD_TOKENS_PERIOD_S: Final = 60.0
"""Tokens from one address that the API server may refuse in this time; further ones are not sent to it."""
ADDRESSES_LIMIT: Final = 10_000
NODE_PERIOD_S: Final = 10.0
"""A node may send one request in this time."""
NODES_LIMIT: Final = 10_000


class BusyError(Exception):
    """There are too many requests."""


class RequestLimits:
    """Admits requests within the limits."""

    __slots__ = ("_clock", "_in_flight", "_is_proxy", "_last", "_reserved")

    def __init__(self, clock: Callable[[], float], is_proxy: Callable[[str], bool] = lambda address: False) -> None:
        self._clock = clock
        self._is_proxy = is_proxy
        self._in_flight: Counter[str] = Counter()
        self._reserved: Counter[str] = Counter()
        self._last: dict[str, float] = {}
        """When each node sent its last request, the oldest first."""

    def __repr__(self) -> str:
        return f"<RequestLimits {self._in_flight.total()} in flight>"

    @contextmanager
    def hold(self, address: str) -> Iterator[None]:
        """Count a request from an address while its proof is checked. Raises BusyError."""
        places = self._find_places(address)
        places[address] += 1
        try:
            yield
        finally:
            places[address] -= 1
            if not places[address]:
                del places[address]

    def _find_places(self, address: str) -> Counter[str]:
        taken = self._in_flight
        if taken.total() < IN_FLIGHT_LIMIT and taken[address] < IN_FLIGHT_LIMIT_PER_ADDRESS:
            return taken
        taken = self._reserved
        if taken.total() >= RESERVED_LIMIT or taken[address] >= RESERVED_LIMIT_PER_ADDRESS:
            raise BusyError
        if not self._is_proxy(address):
            raise BusyError
        return taken

    def note_request(self, node: str) -> None:
        """Count a request of a proven node. Raises BusyError if the last one is too recent."""
        now = self._clock()
        self._forget_before(now - NODE_PERIOD_S)
        if node in self._last or len(self._last) >= NODES_LIMIT:
            raise BusyError
        self._last[node] = now

    def _forget_before(self, oldest: float) -> None:
        for node, at in list(self._last.items()):
            if at > oldest:
                return
            del self._last[node]


class BadTokens:
    """Counts the tokens of each address that the API server has refused."""

    __slots__ = ("_clock", "_counts", "_since")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._counts: Counter[str] = Counter()
        self._since = clock()

    def __repr__(self) -> str:
        return f"<BadTokens {self._counts.total()}>"

    def note(self, address: str) -> None:
        """Count a token."""
        self._begin_period()
        if address in self._counts or len(self._counts) < ADDRESSES_LIMIT:
            self._counts[address] += 1

    def is_over(self, address: str) -> bool:
        """Whether an address has sent too many."""
        self._begin_period()
        return self._counts[address] >= BAD_TOKENS_LIMIT

    def _begin_period(self) -> None:
        now = self._clock()
        if now - self._since >= BAD_TOKENS_PERIOD_S:
            self._since = now
            self._counts.clear()
