"""Counts of one service's requests: plain integers, made into metrics at a scrape."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Final

from maesh_core.model.metrics import Histogram, MetricFamily

_FIRST_BOUND_S: Final = 0.001
DURATION_BOUNDS_S: Final = (_FIRST_BOUND_S, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.3, 1.2, 5.0)
"""Upper bounds; Traefik's 0.1, 0.3, 1.2 and 5 s are among them."""


class RouteCounters:
    """What happened to the requests of one service; lives as long as the proxy has the service."""

    __slots__ = ("durations", "ejections", "retries", "seconds", "statuses")

    def __init__(self) -> None:
        self.statuses: dict[int, int] = {}
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


def collect_counters(counters: Mapping[str, RouteCounters]) -> Sequence[MetricFamily]:
    """Make metrics of all services' counts; services that had no request are left out."""
    used = [(service, counter) for service, counter in sorted(counters.items()) if counter.statuses]
    return [
        MetricFamily(
            name="maesh_service_requests",
            type="counter",
            help="Requests by service and status; 499 means that the client left first.",
            labels=("service", "code"),
            samples=[
                ((service, str(status)), count)
                for service, counter in used
                for status, count in sorted(counter.statuses.items())
            ],
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


def collect_ejections(counters: Mapping[str, RouteCounters], aside: Mapping[str, int]) -> Sequence[MetricFamily]:
    """Make metrics of the servers that are set aside, `aside` now, of all services that had a request."""
    used = [(service, counter) for service, counter in sorted(counters.items()) if counter.statuses]
    return [
        MetricFamily(
            name="maesh_service_servers_aside",
            type="gauge",
            help="Servers set aside after failures, by service; added up over workers, which find out each for itself.",
            labels=("service",),
            samples=[((service,), aside[service]) for service, _ in used if service in aside],
        ),
        MetricFamily(
            name="maesh_service_server_ejections",
            type="counter",
            help="Times that a server in full use was set aside, by service.",
            labels=("service",),
            samples=[((service,), counter.ejections) for service, counter in used],
        ),
        MetricFamily(
            name="maesh_service_retries",
            type="counter",
            help="Attempts that middlewares asked for beyond a request's first, by service.",
            labels=("service",),
            samples=[((service,), counter.retries) for service, counter in used],
        ),
    ]
