"""Counts who calls whom: the requests, connections and sessions of each client address to each service.

A client's connection holds the counter of its latest service, which all connections of that address share, so that an
ordinary request adds to a number and looks nothing up. The number of counters is limited. At the limit, one that no
open connection has used for an hour makes room; its numbers, and those of further clients, are added up as `other`.
"""

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final

from maesh_core.model.metrics import MetricFamily

OTHER: Final = "other"
"""The client's name in the sum of clients that are not counted apart."""
UNUSED_S: Final = 3600.0
SEARCH_LIMIT: Final = 32
"""Counters that are looked at for one to remove; the oldest come first."""
FORGOTTEN: Final = ""
"""The service of a counter that is not reported any more; no route has this name."""
IPV4_MAPPED_PREFIX: Final = "::ffff:"


class CallCounter:
    """The calls of one address to one service. `users` is the number of open connections that hold it."""

    __slots__ = ("connections", "failures", "requests", "service", "used_at", "users")

    def __init__(self, service: str) -> None:
        self.service = service
        self.requests = 0
        self.failures = 0
        self.connections = 0
        self.users = 0
        self.used_at = 0.0
        """When it was last looked up or given back, by the clock."""

    def __repr__(self) -> str:
        return f"<CallCounter {self.service} {self.requests} requests>"

    def add(self, other: "CallCounter") -> None:
        """Add another counter's numbers."""
        self.requests += other.requests
        self.failures += other.failures
        self.connections += other.connections


class EntrypointCounter:
    """The requests on one entrypoint."""

    __slots__ = ("requests",)

    def __init__(self) -> None:
        self.requests = 0

    def __repr__(self) -> str:
        return f"<EntrypointCounter {self.requests} requests>"


class Caller:
    """A client's connection, as the caller of services: `counter` is that of its latest service."""

    __slots__ = ("address", "counter", "entrypoint", "has_left", "is_http2")

    def __init__(self, address: str, entrypoint: EntrypointCounter) -> None:
        self.address = address
        self.entrypoint = entrypoint
        self.counter: CallCounter | None = None
        self.has_left = False
        self.is_http2 = False

    def __repr__(self) -> str:
        return f"<Caller {self.address}>"


class CallerCounts:
    """The counters of a worker. With a `limit` of 0 there are no metrics."""

    __slots__ = ("_counters", "_limit", "_others", "_read_clock")

    def __init__(self, limit: int, read_clock: Callable[[], float]) -> None:
        self._limit = limit
        self._read_clock = read_clock
        self._counters: dict[tuple[str, str], CallCounter] = {}
        self._others: dict[str, CallCounter] = {}

    def __repr__(self) -> str:
        return f"<CallerCounts {len(self._counters)} of {self._limit}>"

    def find(self, address: str, service: str) -> CallCounter:
        """Return the counter of an address and a service."""
        key = (address.removeprefix(IPV4_MAPPED_PREFIX), service)
        counter = self._counters.pop(key, None)
        if counter is None:
            if len(self._counters) >= self._limit and not self._make_room():
                return self._find_other(service)
            counter = CallCounter(service)
        self._counters[key] = counter  # now the last one
        counter.used_at = self._read_clock()
        return counter

    def switch(self, caller: Caller, service: str) -> CallCounter:
        """Return the counter of a connection that calls another service than before, and remember it."""
        counter = self.find(caller.address, service)
        if not caller.has_left:
            self._give_back(caller)
            counter.users += 1
            caller.counter = counter
        return counter

    def leave(self, caller: Caller) -> None:
        """Note that a connection has ended."""
        caller.has_left = True
        self._give_back(caller)

    def keep_only(self, is_known: Callable[[str], bool]) -> None:
        """Forget the counters of services that no longer exist.

        A connection that still holds one looks its counter up again if the service returns.
        """
        for pair in [pair for pair in self._counters if not is_known(pair[1])]:
            self._counters.pop(pair).service = FORGOTTEN
        for service in [service for service in self._others if not is_known(service)]:
            self._others.pop(service).service = FORGOTTEN

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Return the metrics."""
        if not self._limit:
            return []
        counted = [(key, counter) for key, counter in self._counters.items()]
        counted += [((OTHER, service), counter) for service, counter in self._others.items()]
        counted.sort(key=lambda pair: pair[0])
        return [
            _build_family(
                "requests", "Requests by client address and service.", [(key, each.requests) for key, each in counted]
            ),
            _build_family(
                "failures",
                "Requests with a status of 500 or above, by client address and service.",
                [(key, each.failures) for key, each in counted],
            ),
            _build_family(
                "connections",
                "TCP connections and UDP sessions by client address and service.",
                [(key, each.connections) for key, each in counted],
            ),
        ]

    def _give_back(self, caller: Caller) -> None:
        counter, caller.counter = caller.counter, None
        if counter is not None:
            counter.users -= 1
            counter.used_at = self._read_clock()

    def _find_other(self, service: str) -> CallCounter:
        other = self._others.get(service)
        if other is None:
            other = self._others[service] = CallCounter(service)
        return other

    def _make_room(self) -> bool:
        """Add an unused counter to the others; return False if there is none among the oldest."""
        horizon = self._read_clock() - UNUSED_S
        for key, counter in list(islice(self._counters.items(), SEARCH_LIMIT)):
            if counter.users:  # it goes behind the others, so that the next search sees those
                self._counters[key] = self._counters.pop(key)
            elif counter.used_at < horizon:
                del self._counters[key]
                self._find_other(counter.service).add(counter)
                return True
        return False


def _build_family(noun: str, text: str, counted: Sequence[tuple[tuple[str, str], int]]) -> MetricFamily:
    return MetricFamily(
        name=f"maesh_edge_{noun}",
        type="counter",
        help=text,
        labels=("client", "service"),
        samples=[(key, count) for key, count in counted if count],
    )
