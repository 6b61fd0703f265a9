"""Counts the requests of each service.

Takes finished exchanges and returns metric families. Counters are plain integers that become metrics only at a scrape,
so counting is cheap.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, final

from maesh_core.model.metrics import Exemplar, MetricFamily
from maesh_core.proxy.counting import DurationCounts, StatusCounts, find_bucket, name_class, sum_counts

REASON_LIMIT: Final = 50
"""Different answers of the mesh that are counted apart for one service; a plugin may give any reason."""
OTHER_REASON: Final = "other"
FAILURES: Final = "Requests that failed: by a status of 500 or above, a gRPC status, or a response that was cut."
HTTP_1: Final = "http/1"
HTTP_2: Final = "http/2"
"""The values of the label `protocol`."""


@final
class TargetCounters:
    """The counters of a part of a service's requests: those for one destination, or those of one rule."""

    __slots__ = ("durations", "failures", "statuses")

    def __init__(self) -> None:
        self.statuses = StatusCounts()
        self.durations = DurationCounts()
        self.failures = 0

    def __repr__(self) -> str:
        return f"<TargetCounters {self.statuses!r}>"

    def count(self, status: int, seconds: float) -> None:
        """Count one finished exchange."""
        self.statuses.add(status)
        self.durations.add(seconds)


@final
class RouteCounters:
    """The counters of one service's requests. They are kept as long as the routing table has the service."""

    __slots__ = (
        "answers",
        "attempts",
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
        "rules",
        "sent_bytes",
        "statuses",
        "upstream_durations",
    )

    def __init__(self) -> None:
        self.statuses = StatusCounts()
        self.http2_statuses = StatusCounts()
        self.grpc_statuses: dict[int, int] = {}
        self.answers: dict[tuple[int, str], int] = {}
        self.branches: dict[str, TargetCounters] = {}
        self.rules: dict[str, TargetCounters] = {}
        self.failures = 0
        self.cuts: dict[str, int] = {}
        self.durations = DurationCounts()
        self.exemplars: dict[int, Exemplar] = {}
        """Traced requests, by bucket of `durations`."""
        self.upstream_durations = DurationCounts()
        self.attempts = 0
        self.ejections = 0
        self.retries = 0
        self.received_bytes = 0
        self.sent_bytes = 0

    def __repr__(self) -> str:
        return f"<RouteCounters {self.statuses!r} {self.http2_statuses!r}>"

    def count(self, status: int, seconds: float, *, is_http2: bool) -> None:
        """Count one finished exchange."""
        (self.http2_statuses if is_http2 else self.statuses).add(status)
        self.durations.add(seconds)

    def add_exemplar(self, exemplar: Exemplar) -> None:
        """Remember the trace of a request; each bucket keeps the latest one."""
        self.exemplars[find_bucket(exemplar.value)] = exemplar

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
        self._find_branch(destination).count(status, seconds)

    def count_failure(self, destination: str = "") -> None:
        """Count that an exchange has failed; `destination` is its branch, if the service's traffic is split."""
        self.failures += 1
        if destination:
            self._find_branch(destination).failures += 1

    def count_call(self, status: int) -> None:
        """Count one finished gRPC call, which `count` counts too."""
        self.grpc_statuses[status] = self.grpc_statuses.get(status, 0) + 1

    def _find_branch(self, destination: str) -> TargetCounters:
        branch = self.branches.get(destination)
        if branch is None:
            branch = self.branches[destination] = TargetCounters()
        return branch

    def find_rule(self, key: str) -> TargetCounters:
        """Return the counters of a rule, given by the key of its service; create them if there are none."""
        return self.rules.setdefault(key, TargetCounters())

    def keep_rules(self, keys: Collection[str]) -> None:
        """Forget the counters of all rules but these."""
        self.rules = {key: rule for key, rule in self.rules.items() if key in keys}

    @property
    def is_used(self) -> bool:
        """Whether there was a request."""
        return self.statuses.is_used or self.http2_statuses.is_used


def collect_counters(counters: Mapping[str, RouteCounters], *, has_exact_codes: bool) -> Sequence[MetricFamily]:
    """Build the request metrics of all services that had a request.

    Statuses are summed up by class, such as `2xx`, unless exact ones are wanted.
    """
    used = [(service, counter) for service, counter in sorted(counters.items()) if counter.is_used]
    name_code = str if has_exact_codes else name_class
    return [
        *_collect_statuses(used, name_code),
        *_collect_branch_statuses(used, name_code),
        *_collect_durations(used),
        *_collect_rules(used, name_code),
        *_collect_sums(used),
    ]


_Used = Sequence[tuple[str, RouteCounters]]


def _collect_statuses(used: _Used, name_code: Callable[[int], str]) -> Sequence[MetricFamily]:
    return [
        _build_counter(
            "requests",
            "Requests by service, protocol of the client, and status; 499 means that the client left before its end.",
            ("service", "protocol", "code"),
            sum_counts(
                ((service, protocol, name_code(status)), count)
                for service, counter in used
                for protocol, statuses in ((HTTP_1, counter.statuses), (HTTP_2, counter.http2_statuses))
                for status, count in statuses.by_status.items()
            ),
        ),
        _build_counter(
            "grpc_responses",
            "gRPC calls by service and status number, such as 0 for OK; answers of the mesh are included.",
            ("service", "grpc_status"),
            sum_counts(
                ((service, str(status)), count)
                for service, counter in used
                for status, count in counter.grpc_statuses.items()
            ),
        ),
        _build_counter(
            "answers",
            "Answers of the mesh itself by service, status and reason.",
            ("service", "code", "reason"),
            sum_counts(
                ((service, str(status), reason), count)
                for service, counter in used
                for (status, reason), count in counter.answers.items()
            ),
        ),
        _build_counter(
            "cut_responses",
            "Responses that ended before they were complete, by service and reason.",
            ("service", "reason"),
            sum_counts(
                ((service, reason), count) for service, counter in used for reason, count in counter.cuts.items()
            ),
        ),
    ]


def _collect_branch_statuses(used: _Used, name_code: Callable[[int], str]) -> Sequence[MetricFamily]:
    return [
        MetricFamily(
            name="maesh_branch_requests",
            type="counter",
            help="Requests of services whose traffic is split, by the destination that was chosen and status.",
            labels=("service", "destination", "code"),
            samples=sum_counts(
                ((service, destination, name_code(status)), count)
                for service, counter in used
                for destination, branch in counter.branches.items()
                for status, count in branch.statuses.by_status.items()
            ),
        ),
        MetricFamily(
            name="maesh_branch_failures",
            type="counter",
            help="Failed requests of services whose traffic is split, by the destination that was chosen.",
            labels=("service", "destination"),
            samples=[
                ((service, destination), branch.failures)
                for service, counter in used
                for destination, branch in sorted(counter.branches.items())
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
            samples=[((service,), counter.durations.build_histogram(counter.exemplars)) for service, counter in used],
        ),
        MetricFamily(
            name="maesh_service_upstream_duration_seconds",
            type="histogram",
            help="From the start of an attempt to the head of its response, by service.",
            labels=("service",),
            samples=[((service,), counter.upstream_durations.build_histogram()) for service, counter in used],
        ),
        MetricFamily(
            name="maesh_branch_request_duration_seconds",
            type="histogram",
            help="From a request's head to the end of its response, by the destination of a split service.",
            labels=("service", "destination"),
            samples=[
                ((service, destination), branch.durations.build_histogram())
                for service, counter in used
                for destination, branch in sorted(counter.branches.items())
            ],
        ),
    ]


def _collect_rules(used: _Used, name_code: Callable[[int], str]) -> Sequence[MetricFamily]:
    rules = [
        (service, key, rule)
        for service, counter in used
        for key, rule in sorted(counter.rules.items())
        if rule.statuses.is_used
    ]
    return [
        MetricFamily(
            name="maesh_rule_requests",
            type="counter",
            help="Requests of services with rules, by the rule that was chosen and status.",
            labels=("service", "rule", "code"),
            samples=sum_counts(
                ((service, key, name_code(status)), count)
                for service, key, rule in rules
                for status, count in rule.statuses.by_status.items()
            ),
        ),
        MetricFamily(
            name="maesh_rule_failures",
            type="counter",
            help="Failed requests of services with rules, by the rule that was chosen.",
            labels=("service", "rule"),
            samples=[((service, key), rule.failures) for service, key, rule in rules],
        ),
        MetricFamily(
            name="maesh_rule_request_duration_seconds",
            type="histogram",
            help="From a request's head to the end of its response, by the rule that was chosen.",
            labels=("service", "rule"),
            samples=[((service, key), rule.durations.build_histogram()) for service, key, rule in rules],
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


def _build_counter(
    noun: str, text: str, labels: tuple[str, ...], samples: Sequence[tuple[tuple[str, ...], int]]
) -> MetricFamily:
    return MetricFamily(name=f"maesh_service_{noun}", type="counter", help=text, labels=labels, samples=samples)


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
