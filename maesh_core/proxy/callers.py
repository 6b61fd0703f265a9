"""Counts who calls whom: the requests, connections and sessions of each client address to each service.

A client's connection holds the counter of its latest service, which all connections of that address share, so that an
ordinary request adds to a number and looks nothing up. The number of counters is limited. At the limit, one that no
open connection has used for an hour makes room, and further clients are added up as `other`. The parent has long had
the numbers of the one that made room, and adds them to `other` when no worker counts it any more
(proxy/workers/counters.py).
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Final

from maesh_core.model.addresses import IPV4_MAPPED_PREFIX
from maesh_core.model.metrics import OTHER, MetricFamily
from maesh_core.model.transport import CLEAR, ENCRYPTED
from maesh_core.proxy.counting import DurationCounts, StatusCounts, name_class, sum_counts

UNUSED_S: Final = 3600.0
SEARCH_LIMIT: Final = 32
"""Counters that are looked at for one to remove; the oldest come first."""
FORGOTTEN: Final = ""
"""The service of a counter that is not reported any more; no route has this name."""


class CallCounter:
    """The calls of one address to one service. `users` is the number of open connections that hold it."""

    __slots__ = ("clear", "connections", "denied", "durations", "encrypted", "failures", "service", "used_at", "users")

    def __init__(self, service: str) -> None:
        self.service = service
        self.durations = DurationCounts()
        """The durations of requests, of which there are as many."""
        self.failures = 0
        self.denied = 0
        self.connections = 0
        self.clear = 0
        self.encrypted = 0
        """Requests and connections to services with encryption that went to other nodes, in clear or encrypted."""
        self.users = 0
        self.used_at = 0.0
        """When it was last looked up or given back, by the clock."""

    def __repr__(self) -> str:
        return f"<CallCounter {self.service} {self.requests} requests>"

    @property
    def requests(self) -> int:
        """The number of finished requests."""
        return self.durations.total

    def list_paths(self) -> tuple[tuple[str, int], ...]:
        """Return the counts by path."""
        return (CLEAR, self.clear), (ENCRYPTED, self.encrypted)

    def count_path(self, kind: str, number: int = 1) -> None:
        """Count a request or a connection by its path."""
        if kind == ENCRYPTED:
            self.encrypted += number
        elif kind == CLEAR:
            self.clear += number


class EntrypointCounter:
    """The requests on one entrypoint: `requests` have begun, and those with a status have ended."""

    __slots__ = ("durations", "requests", "statuses")

    def __init__(self) -> None:
        self.requests = 0
        self.statuses = StatusCounts()
        self.durations = DurationCounts()

    def __repr__(self) -> str:
        return f"<EntrypointCounter {self.requests} requests>"

    def count(self, status: int, seconds: float) -> None:
        """Count a request that has ended."""
        self.statuses.add(status)
        self.durations.add(seconds)


def collect_entrypoints(counters: Mapping[int, EntrypointCounter], *, has_exact_codes: bool) -> Sequence[MetricFamily]:
    """Build the metrics of entrypoints, which are given by their ports."""
    name_code = str if has_exact_codes else name_class
    counted = [(str(port), counter) for port, counter in sorted(counters.items())]
    return [
        MetricFamily(
            name="maesh_entrypoint_requests",
            type="counter",
            help="Parsed HTTP requests by entrypoint and status, also those without a route.",
            labels=("entrypoint", "code"),
            samples=sum_counts(
                ((port, name_code(status)), number)
                for port, counter in counted
                for status, number in counter.statuses.by_status.items()
            ),
        ),
        MetricFamily(
            name="maesh_entrypoint_request_duration_seconds",
            type="histogram",
            help="From a request's head to the end of its response, by entrypoint.",
            labels=("entrypoint",),
            samples=[
                ((port,), counter.durations.build_histogram()) for port, counter in counted if counter.statuses.is_used
            ],
        ),
    ]


class Caller:
    """A client's connection, as the caller of services: `counter` is that of its latest service.

    `entrypoint_counter` is that of the entrypoint to which it connected.
    """

    __slots__ = ("address", "counter", "entrypoint_counter", "has_left", "is_http2")

    def __init__(self, address: str, entrypoint_counter: EntrypointCounter) -> None:
        self.address = address
        self.entrypoint_counter = entrypoint_counter
        self.counter: CallCounter | None = None
        self.has_left = False
        self.is_http2 = False

    def __repr__(self) -> str:
        return f"<Caller {self.address}>"


class CallerCounts:
    """The counters of a worker. With a `limit` of 0 there are no metrics; durations are optional."""

    __slots__ = ("_counters", "_evicted", "_has_durations", "_limit", "_others", "_read_clock")

    def __init__(self, limit: int, read_clock: Callable[[], float], *, has_durations: bool = True) -> None:
        self._limit = limit
        self._has_durations = has_durations
        self._read_clock = read_clock
        self._counters: dict[tuple[str, str], CallCounter] = {}
        self._evicted: dict[tuple[str, str], CallCounter] = {}
        """Counters that were removed since the last report, which go on if they are needed again before the next one:
        the node's parent only sees that a client has vanished if one report lacks it."""
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
            counter = self._evicted.pop(key, None)
            if counter is None:
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
        self._evicted = {pair: counter for pair, counter in self._evicted.items() if is_known(pair[1])}
        for service in [service for service in self._others if not is_known(service)]:
            self._others.pop(service).service = FORGOTTEN

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Return the metrics; each call is a report."""
        self._evicted.clear()
        if not self._limit:
            return []
        counted = [(key, counter) for key, counter in self._counters.items()]
        counted += [((OTHER, service), counter) for service, counter in self._others.items()]
        counted.sort(key=lambda pair: pair[0])
        paths = [((*key, kind), count) for key, each in counted for kind, count in each.list_paths() if count]
        found = [
            MetricFamily(
                name="maesh_edge_paths",
                type="counter",
                help="Requests and connections to other nodes by client address, service and path.",
                labels=("client", "service", "path"),
                samples=paths,
            )
        ]
        return [
            *(found if paths else ()),
            _build_family(
                "requests", "Requests by client address and service.", [(key, each.requests) for key, each in counted]
            ),
            _build_family(
                "failures",
                "Requests that failed, by client address and service.",
                [(key, each.failures) for key, each in counted],
            ),
            _build_family(
                "denied",
                "Requests, connections and sessions that access control denied, by client address and service.",
                [(key, each.denied) for key, each in counted],
            ),
            _build_family(
                "connections",
                "TCP connections and UDP sessions by client address and service.",
                [(key, each.connections) for key, each in counted],
            ),
            *([_build_durations(counted)] if self._has_durations else ()),
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
        """Remove an unused counter; return False if there is none among the oldest."""
        horizon = self._read_clock() - UNUSED_S
        for key, counter in list(islice(self._counters.items(), SEARCH_LIMIT)):
            if counter.users:  # it goes behind the others, so that the next search sees those
                self._counters[key] = self._counters.pop(key)
            elif counter.used_at < horizon:
                self._evicted[key] = self._counters.pop(key)
                return True
        return False


def _build_durations(counted: Sequence[tuple[tuple[str, str], CallCounter]]) -> MetricFamily:
    return MetricFamily(
        name="maesh_edge_request_duration_seconds",
        type="histogram",
        help="From a request's head to the end of its response, by client address and service.",
        labels=("client", "service"),
        samples=[(key, each.durations.build_histogram()) for key, each in counted if each.requests],
    )


def _build_family(noun: str, text: str, counted: Sequence[tuple[tuple[str, str], int]]) -> MetricFamily:
    return MetricFamily(
        name=f"maesh_edge_{noun}",
        type="counter",
        help=text,
        labels=("client", "service"),
        samples=[(key, count) for key, count in counted if count],
    )
