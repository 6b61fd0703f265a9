"""Counts the requests of each service.

Takes finished exchanges and returns metric families. Counters are plain integers that become metrics only at a scrape,
so counting is cheap.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from maesh_core.model.metrics import Exemplar, Histogram, MetricFamily

_FIRST_BOUND_S: Final = 0.0005
DURATION_BOUNDS_S: Final = (_FIRST_BOUND_S, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.3, 1.2, 5.0)
"""Upper bounds of the buckets, in seconds; they include Traefik's 0.1, 0.3, 1.2 and 5 s."""
REASON_LIMIT: Final = 50
"""Different answers of the mesh that are counted apart for one service; a plugin may give any reason."""
OTHER_REASON: Final = "other"
FAILURES: Final = "Requests that failed: by a status of 500 or above, a gRPC status, or a response that was cut."
HTTP_1: Final = "http/1"
HTTP_2: Final = "http/2"
"""The values of the label `protocol`."""


class RouteCounters:
    """The counters of one service's requests. They are kept as long as the routing table has the service."""

    __slots__ = (
        "answers",
        "attempts",
        "branch_durations",
        "branch_failures",
        "branch_seconds",
        "branches",
        "cuts",
        "durations",
        "ejections",
        "exemplars",
        "failures",
        "grpc_statuses",
        "http2_statuses",
        "received_bytes",
        "retries",
        "seconds",
        "sent_bytes",
        "statuses",
        "upstream_durations",
        "upstream_seconds",
    )

    def __init__(self) -> None:
        self.statuses: dict[int, int] = {}
        self.http2_statuses: dict[int, int] = {}
        self.grpc_statuses: dict[int, int] = {}
        self.answers: dict[tuple[int, str], int] = {}
        self.branches: dict[str, dict[int, int]] = {}
        self.branch_failures: dict[str, int] = {}
        self.branch_durations: dict[str, list[int]] = {}
        self.branch_seconds: dict[str, float] = {}
        self.failures = 0
        self.cuts: dict[str, int] = {}
        self.durations = [0] * (len(DURATION_BOUNDS_S) + 1)
        self.seconds = 0.0
        self.exemplars: dict[int, Exemplar] = {}
        """Traced requests, by bucket of `durations`."""
        self.upstream_durations = [0] * (len(DURATION_BOUNDS_S) + 1)
        self.upstream_seconds = 0.0
        self.attempts = 0
        self.ejections = 0
        self.retries = 0
        self.received_bytes = 0
        self.sent_bytes = 0

    def __repr__(self) -> str:
        return f"<RouteCounters {self.statuses} {self.http2_statuses}>"

    def count(self, status: int, seconds: float, *, is_http2: bool) -> None:
        """Count one finished exchange."""
        statuses = self.http2_statuses if is_http2 else self.statuses
        statuses[status] = statuses.get(status, 0) + 1
        self.durations[bisect_left(DURATION_BOUNDS_S, seconds) if seconds > _FIRST_BOUND_S else 0] += 1
        self.seconds += seconds

    def add_exemplar(self, exemplar: Exemplar) -> None:
        """Remember the trace of a request; each bucket keeps the latest one."""
        self.exemplars[bisect_left(DURATION_BOUNDS_S, exemplar.value)] = exemplar

    def count_response(self, seconds: float) -> None:
        """Count the response head of one attempt, `seconds` after the attempt's start."""
        self.upstream_durations[bisect_left(DURATION_BOUNDS_S, seconds) if seconds > _FIRST_BOUND_S else 0] += 1
        self.upstream_seconds += seconds

    def count_answer(self, status: int, reason: str) -> None:
        """Count an answer of the mesh itself."""
        answers = self.answers
        key = (status, reason)
        if key not in answers and len(answers) >= REASON_LIMIT:
            key = (status, OTHER_REASON)
        answers[key] = answers.get(key, 0) + 1

    def count_cut(self, reason: str) -> None:
        """Count a response that ended before it was complete."""
        self.cuts[reason] = self.cuts.get(reason, 0) + 1

    def count_branch(self, destination: str, status: int, seconds: float) -> None:
        """Count one finished exchange of a service whose traffic is split."""
        statuses = self.branches.get(destination)
        if statuses is None:
            statuses = self.branches[destination] = {}
            self.branch_durations[destination] = [0] * (len(DURATION_BOUNDS_S) + 1)
            self.branch_seconds[destination] = 0.0
        statuses[status] = statuses.get(status, 0) + 1
        bucket = bisect_left(DURATION_BOUNDS_S, seconds) if seconds > _FIRST_BOUND_S else 0
        self.branch_durations[destination][bucket] += 1
        self.branch_seconds[destination] += seconds

    def count_failure(self, destination: str = "") -> None:
        """Count that an exchange has failed; `destination` is its branch, if the service's traffic is split."""
        self.failures += 1
        if destination:
            self.branch_failures[destination] = self.branch_failures.get(destination, 0) + 1

    def count_call(self, status: int) -> None:
        """Count one finished gRPC call, which `count` counts too."""
        self.grpc_statuses[status] = self.grpc_statuses.get(status, 0) + 1

    @property
    def is_used(self) -> bool:
        """Whether there was a request."""
        return bool(self.statuses or self.http2_statuses)


def collect_counters(counters: Mapping[str, RouteCounters], *, has_exact_codes: bool) -> Sequence[MetricFamily]:
    """Build the request metrics of all services that had a request.

    Statuses are summed up by class, such as `2xx`, unless exact ones are wanted.
    """
    used = [(service, counter) for service, counter in sorted(counters.items()) if counter.is_used]
    name_code = str if has_exact_codes else name_class
    return [
        *_collect_statuses(used, name_code),
        *_collect_durations(used),
        *_collect_sums(used),
    ]


_Used = Sequence[tuple[str, RouteCounters]]


def _collect_statuses(used: _Used, name_code: Callable[[int], str]) -> Sequence[MetricFamily]:
    return [
        _build_counter(
            "requests",
            "Requests by service, protocol of the client, and status; 499 means that the client left before its end.",
            ("service", "protocol", "code"),
            _sum(
                ((service, protocol, name_code(status)), count)
                for service, counter in used
                for protocol, statuses in ((HTTP_1, counter.statuses), (HTTP_2, counter.http2_statuses))
                for status, count in statuses.items()
            ),
        ),
        _build_counter(
            "grpc_responses",
            "gRPC calls by service and status number, such as 0 for OK; answers of the mesh are included.",
            ("service", "grpc_status"),
            _sum(
                ((service, str(status)), count)
                for service, counter in used
                for status, count in counter.grpc_statuses.items()
            ),
        ),
        _build_counter(
            "answers",
            "Answers of the mesh itself by service, status and reason.",
            ("service", "code", "reason"),
            _sum(
                ((service, str(status), reason), count)
                for service, counter in used
                for (status, reason), count in counter.answers.items()
            ),
        ),
        _build_counter(
            "cut_responses",
            "Responses that ended before they were complete, by service and reason.",
            ("service", "reason"),
            _sum(((service, reason), count) for service, counter in used for reason, count in counter.cuts.items()),
        ),
        MetricFamily(
            name="maesh_branch_requests",
            type="counter",
            help="Requests of services whose traffic is split, by the destination that was chosen and status.",
            labels=("service", "destination", "code"),
            samples=_sum(
                ((service, destination, name_code(status)), count)
                for service, counter in used
                for destination, statuses in counter.branches.items()
                for status, count in statuses.items()
            ),
        ),
        MetricFamily(
            name="maesh_branch_failures",
            type="counter",
            help="Failed requests of services whose traffic is split, by the destination that was chosen.",
            labels=("service", "destination"),
            samples=[
                ((service, destination), counter.branch_failures.get(destination, 0))
                for service, counter in used
                for destination in sorted(counter.branches)
            ],
        ),
    ]


def _collect_durations(used: _Used) -> Sequence[MetricFamily]:
    return [
        MetricFamily(
            name="maesh_service_request_duration_seconds",
            type="histogram",
            help="From a request's head to the end of its response, by service.",
            labels=("service",),
            samples=[
                (
                    (service,),
                    Histogram(DURATION_BOUNDS_S, tuple(counter.durations), counter.seconds, dict(counter.exemplars)),
                )
                for service, counter in used
            ],
        ),
        MetricFamily(
            name="maesh_service_upstream_duration_seconds",
            type="histogram",
            help="From the start of an attempt to the head of its response, by service.",
            labels=("service",),
            samples=[
                (
                    (service,),
                    Histogram(DURATION_BOUNDS_S, tuple(counter.upstream_durations), counter.upstream_seconds),
                )
                for service, counter in used
            ],
        ),
        MetricFamily(
            name="maesh_branch_request_duration_seconds",
            type="histogram",
            help="From a request's head to the end of its response, by the destination of a split service.",
            labels=("service", "destination"),
            samples=[
                (
                    (service, destination),
                    Histogram(DURATION_BOUNDS_S, tuple(durations), counter.branch_seconds[destination]),
                )
                for service, counter in used
                for destination, durations in sorted(counter.branch_durations.items())
            ],
        ),
    ]


def _collect_sums(used: _Used) -> Sequence[MetricFamily]:
    return [
        _build_counter(noun, text, ("service",), [((service,), getattr(counter, name)) for service, counter in used])
        for noun, name, text in (
            ("failures", "failures", FAILURES),
            ("attempts", "attempts", "Requests sent to servers, by service; retries are included."),
            ("retries", "retries", "Further attempts that middlewares asked for, by service."),
            ("request_bytes", "received_bytes", "Bytes of request bodies, by service."),
            ("response_bytes", "sent_bytes", "Bytes of response bodies, by service."),
        )
    ]


def name_class(status: int) -> str:
    """Name the class of a status, such as `2xx`."""
    return f"{status // 100}xx"


def _build_counter(
    noun: str, text: str, labels: tuple[str, ...], samples: Sequence[tuple[tuple[str, ...], int]]
) -> MetricFamily:
    return MetricFamily(name=f"maesh_service_{noun}", type="counter", help=text, labels=labels, samples=samples)


def _sum(counts: Iterable[tuple[tuple[str, ...], int]]) -> list[tuple[tuple[str, ...], int]]:
    """Add up counts with the same labels, and sort them."""
    sums: dict[tuple[str, ...], int] = {}
    for labels, count in counts:
        sums[labels] = sums.get(labels, 0) + count
    return sorted(sums.items())


def collect_ejections(counters: Mapping[str, RouteCounters], aside: Mapping[str, int]) -> Sequence[MetricFamily]:
    """Build the metrics about set-aside servers; `aside` is the current number of servers per service."""
    used = [(service, counter) for service, counter in sorted(counters.items()) if counter.is_used]
    return [
        MetricFamily(
            name="maesh_service_servers_aside",
            type="gauge",
            help="Servers set aside after failures, by service; the sum over workers, which detect them separately.",
            labels=("service",),
            samples=[((service,), aside[service]) for service, _ in used if service in aside],
        ),
        _build_counter(
            "server_ejections",
            "Servers set aside that were in full use before, by service.",
            ("service",),
            [((service,), counter.ejections) for service, counter in used],
        ),
    ]
