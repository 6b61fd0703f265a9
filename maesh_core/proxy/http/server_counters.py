"""Counts the attempts at each server.

Takes responses and finished exchanges, and returns metric families. Servers of several schemes at one address, such as
`http` and `h2c`, are reported together: their metrics have one label, `server`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, final

from maesh_core.model.metrics import MetricFamily
from maesh_core.proxy.counting import DurationCounts, StatusCounts, name_class, sum_counts

FAILED_STATUS: Final = 500
"""A response with this status or above counts as an error of the server, and its request as failed."""


@final
class ServerCounters:
    """The counters of one server. Of its attempts, `responses` got one, and `failures` got none.

    `failed_responses` are responses below 500 that failed later or by a gRPC status. The bytes are of the bodies of
    exchanges whose response is the server's.
    """

    __slots__ = ("durations", "failed_responses", "failures", "received_bytes", "sent_bytes", "statuses")

    def __init__(self) -> None:
        self.statuses = StatusCounts()
        self.durations = DurationCounts()
        self.failed_responses = 0
        self.failures = 0
        self.received_bytes = 0
        self.sent_bytes = 0

    def __repr__(self) -> str:
        return f"<ServerCounters {self.statuses!r} failures={self.failures}>"

    @property
    def responses(self) -> int:
        """How many attempts got a response."""
        return self.durations.total

    @property
    def errors(self) -> int:
        """How many attempts got a response that is an error."""
        return sum([number for status, number in self.statuses.by_status.items() if status >= FAILED_STATUS])

    def count_response(self, status: int, seconds: float) -> None:
        """Count the response head of one attempt, `seconds` after the attempt's start."""
        self.statuses.add(status)
        self.durations.add(seconds)

    def add(self, other: "ServerCounters") -> None:
        """Add what another server of the same address has counted."""
        self.statuses.merge(other.statuses)
        self.durations.merge(other.durations)
        self.failed_responses += other.failed_responses
        self.failures += other.failures
        self.received_bytes += other.received_bytes
        self.sent_bytes += other.sent_bytes


def collect_servers(
    servers: Iterable[tuple[str, ServerCounters]], *, has_exact_codes: bool, has_durations: bool
) -> Sequence[MetricFamily]:
    """Build the metrics of servers, which are given by their labels.

    Statuses are summed up by class, such as `2xx`, unless exact ones are wanted.
    """
    counted = sorted(_merge(servers).items())
    name_code = str if has_exact_codes else name_class
    return [
        _collect_attempts(counted),
        _collect_codes(counted, name_code),
        *(
            _build_counter(noun, text, [(label, getattr(each, name)) for label, each in counted])
            for noun, name, text in (
                (
                    "failed_responses",
                    "failed_responses",
                    "Responses of servers below 500 that failed: they were cut, or have a gRPC status that says so.",
                ),
                ("request_bytes", "received_bytes", "Bytes of the bodies of requests that servers have answered."),
                ("response_bytes", "sent_bytes", "Bytes of the bodies of servers' responses."),
            )
        ),
        *([_collect_durations(counted)] if has_durations else ()),
    ]


_Counted = Sequence[tuple[str, ServerCounters]]


def _merge(servers: Iterable[tuple[str, ServerCounters]]) -> Mapping[str, ServerCounters]:
    """Add up the servers of each label; the counters of a server with a label of its own are not copied."""
    found: dict[str, ServerCounters] = {}
    shared: set[str] = set()
    for label, counters in servers:
        former = found.setdefault(label, counters)
        if former is counters:
            continue
        if label not in shared:
            shared.add(label)
            former, only = ServerCounters(), former
            former.add(only)
            found[label] = former
        former.add(counters)
    return found


def _collect_attempts(counted: _Counted) -> MetricFamily:
    return MetricFamily(
        name="maesh_server_attempts",
        type="counter",
        help="Attempts at servers, by outcome: a response, an error (a 5xx response), or a failure (no response).",
        labels=("server", "outcome"),
        samples=[
            ((label, outcome), number)
            for label, each in counted
            for outcome, number in (
                ("error", each.errors),
                ("failure", each.failures),
                ("response", each.responses - each.errors),
            )
            if number
        ],
    )


def _collect_codes(counted: _Counted, name_code: Callable[[int], str]) -> MetricFamily:
    return MetricFamily(
        name="maesh_server_responses",
        type="counter",
        help="Responses of servers by status; those that were not forwarded, because of a retry, are included.",
        labels=("server", "code"),
        samples=sum_counts(
            ((label, name_code(status)), number)
            for label, each in counted
            for status, number in each.statuses.by_status.items()
        ),
    )


def _collect_durations(counted: _Counted) -> MetricFamily:
    return MetricFamily(
        name="maesh_server_attempt_duration_seconds",
        type="histogram",
        help="From the start of an attempt to the head of its response, by server.",
        labels=("server",),
        samples=[((label,), each.durations.build_histogram()) for label, each in counted if each.statuses.is_used],
    )


def _build_counter(noun: str, text: str, counted: Iterable[tuple[str, int]]) -> MetricFamily:
    return MetricFamily(
        name=f"maesh_server_{noun}",
        type="counter",
        help=text,
        labels=("server",),
        samples=[((label,), number) for label, number in counted if number],
    )
