"""Counts the requests of each service.

Takes finished exchanges and returns metric families. Counters are plain integers that become metrics only at a scrape,
so counting is cheap.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from maesh_core.model.metrics import Histogram, MetricFamily

_FIRST_BOUND_S: Final = 0.001
DURATION_BOUNDS_S: Final = (_FIRST_BOUND_S, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.3, 1.2, 5.0)
"""Upper bounds of the buckets, in seconds; they include Traefik's 0.1, 0.3, 1.2 and 5 s."""


class RouteCounters:
    """The counters of one service's requests. They are kept as long as the routing table has the service."""

    __slots__ = ("durations", "ejections", "grpc_statuses", "retries", "seconds", "statuses")

    def __init__(self) -> None:
        self.statuses: dict[int, int] = {}
        self.grpc_statuses: dict[int, int] = {}
        self.durations = [0] * (len(DURATION_BOUNDS_S) + 1)
        self.seconds = 0.0
        self.ejections = 0
        self.retries = 0

    def __repr__(self) -> str:
        return f"<RouteCounters {self.statuses}>"

    def count(self, status: int, seconds: float) -> None:
        """Count one finished exchange."""
        statuses = self.statuses
        statuses[status] = statuses.get(status, 0) + 1
        self.durations[bisect_left(DURATION_BOUNDS_S, seconds) if seconds > _FIRST_BOUND_S else 0] += 1
        self.seconds += seconds

    def count_call(self, status: int) -> None:
        """Count one finished gRPC call, which `count` counts too."""
        self.grpc_statuses[status] = self.grpc_statuses.get(status, 0) + 1


def collect_counters(counters: Mapping[str, RouteCounters]) -> Sequence[MetricFamily]:
    """Build the request metrics of all services that had a request."""
    used = [(service, counter) for service, counter in sorted(counters.items()) if counter.statuses]
    return [
        MetricFamily(
            name="maesh_service_requests",
            type="counter",
            help="Requests by service and status; 499 means that the client left before the response.",
            labels=("service", "code"),
            samples=_list_samples((service, counter.statuses) for service, counter in used),
        ),
        MetricFamily(
            name="maesh_service_grpc_responses",
            type="counter",
            help="gRPC calls by service and status number, such as 0 for OK; answers of the mesh are included.",
            labels=("service", "grpc_status"),
            samples=_list_samples((service, counter.grpc_statuses) for service, counter in used),
        ),
        MetricFamily(
            name="maesh_service_request_duration_seconds",
            type="histogram",
            help="From a request's head to the end of its response, by service.",
            labels=("service",),
            samples=[
                ((service,), Histogram(DURATION_BOUNDS_S, tuple(counter.durations), counter.seconds))
                for service, counter in used
            ],
        ),
    ]


def _list_samples(counts: Iterable[tuple[str, dict[int, int]]]) -> list[tuple[tuple[str, str], int]]:
    """List the samples of counts by service and status."""
    return [((service, str(status)), count) for service, found in counts for status, count in sorted(found.items())]


def collect_ejections(counters: Mapping[str, RouteCounters], aside: Mapping[str, int]) -> Sequence[MetricFamily]:
    """Build the metrics about set-aside servers and retries; `aside` is the current number of servers per service."""
    used = [(service, counter) for service, counter in sorted(counters.items()) if counter.statuses]
    return [
        MetricFamily(
            name="maesh_service_servers_aside",
            type="gauge",
            help="Servers set aside after failures, by service; the sum over workers, which detect them separately.",
            labels=("service",),
            samples=[((service,), aside[service]) for service, _ in used if service in aside],
        ),
        MetricFamily(
            name="maesh_service_server_ejections",
            type="counter",
            help="Servers set aside that were in full use before, by service.",
            labels=("service",),
            samples=[((service,), counter.ejections) for service, counter in used],
        ),
        MetricFamily(
            name="maesh_service_retries",
            type="counter",
            help="Further attempts that middlewares asked for, by service.",
            labels=("service",),
            samples=[((service,), counter.retries) for service, counter in used],
        ),
    ]
