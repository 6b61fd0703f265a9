"""The proxy's half: decides which requests are sampled, sends their context on, and records them.

A request that is not sampled is forwarded as it came: nothing is recorded, and no header changes. A failure here never
affects the request; it is counted, and logged once.
"""

import logging
from time import time_ns
from typing import Any, Final, Protocol

from maesh_core.plugin import (
    CLIENT_LEFT,
    UPSTREAM_LOST,
    ClientHead,
    Exchange,
    MetricFamily,
    Middleware,
    PodNames,
    UpstreamNotReachedError,
    UpstreamTimeoutError,
    search_trace_context,
)
from maesh_otel.context import (
    TRACEPARENT,
    UNDECIDED,
    W3C_FORMAT,
    TraceContext,
    read_context,
    render_traceparent,
    write_context,
)
from maesh_otel.sampling import RatioSampler, build_span_id, build_trace_id
from maesh_otel.settings import ServiceTracing
from maesh_otel.trace import AttemptRecord, RequestRecord

CONNECT_FAILURE: Final = "connect-failure"
TIMEOUT: Final = "timeout"
RESET: Final = "reset"
CANCELLED: Final = "cancelled"
"""Why an attempt had no complete response. Retry's annotation `retry-on` has the same words, except for `cancelled`:
the mesh ended the attempt itself, for example because the client left."""

_logger = logging.getLogger(__name__)


class Sink(Protocol):
    """Where finished records go."""

    def start(self) -> None:
        """Get ready; called before there are records, and any number of times."""

    def submit(self, record: RequestRecord) -> None:
        """Accept a record, or drop it; must not block."""

    def collect_metrics(self) -> list[MetricFamily]:
        """Return the metrics."""


class Tracing(Middleware):
    """The tracing of one service."""

    def __init__(
        self, service: str, ratio: float, sink: Sink, *, marks_unsampled: bool = False, pods: PodNames | None = None
    ) -> None:
        self._service = service
        self._pods: Any = pods
        self._sampler = RatioSampler(ratio)
        self.skip_count = None if marks_unsampled else self._sampler.count
        self._sink = sink
        self._marks_unsampled = marks_unsampled
        self._records: dict[Exchange, RequestRecord] = {}
        """Keyed by the exchange itself: compiled exchanges have no weak references."""
        self._is_chosen = False
        """Whether `skips_request` has chosen the next request that `on_request` gets."""
        self._failures = 0

    def __repr__(self) -> str:
        return f"<Tracing of {self._service} {self._sampler!r} under way={len(self._records)}>"

    def skips_request(self, head: ClientHead) -> bool:
        """Let a request pass that has no context, and that is not sampled."""
        if self._marks_unsampled or head.has_trace_context:
            return False
        self._is_chosen = self._is_chosen or self._sampler.choose()
        return not self._is_chosen

    def on_request(self, exchange: Exchange) -> None:
        """Decide whether the request is sampled; begin its record and its first attempt if it is."""
        try:
            context = read_context(exchange.client_headers) if exchange.head_matches(search_trace_context) else None
            if context is None or context.decision != 0:
                self._begin(exchange, context)
        except Exception as error:  # tracing must not affect traffic
            self._note_failure(error)

    def _begin(self, exchange: Exchange, context: TraceContext | None) -> None:
        """Sample a request whose client has not decided against it."""
        if context is None or context.decision == UNDECIDED:
            if not self._choose():
                if self._marks_unsampled and context is None:
                    self._mark(exchange)
                return
            if context is None:
                context = TraceContext(b"", b"", 1, W3C_FORMAT)
        if not context.trace_id:
            context.trace_id = build_trace_id(self._sampler.ratio)
        now_ns = time_ns()
        record = RequestRecord(context, build_span_id(), now_ns)
        self._records[exchange] = record
        self._add_attempt(exchange, record, now_ns)

    def _choose(self) -> bool:
        if self._is_chosen:
            self._is_chosen = False
            return True
        return self._sampler.choose()

    def _mark(self, exchange: Exchange) -> None:
        """Tell the server that the mesh did not choose the request, so that it does not start a trace either."""
        traceparent = render_traceparent(build_trace_id(1.0), build_span_id(), 0)
        exchange.request_headers.set(TRACEPARENT, traceparent)

    def _add_attempt(self, exchange: Exchange, record: RequestRecord, now_ns: int) -> None:
        attempt = AttemptRecord(build_span_id(), now_ns)
        record.attempts.append(attempt)
        write_context(exchange.request_headers, record.context, attempt.span_id, record.span_id)

    def on_attempt(self, exchange: Exchange) -> None:
        """End the record of the last attempt, which this one repeats, and begin another one."""
        record = self._records.get(exchange)
        if record is None:
            return
        try:
            now_ns = time_ns()
            self._end_attempt(exchange, record.attempts[-1], now_ns)
            self._add_attempt(exchange, record, now_ns)
        except Exception as error:  # tracing must not affect traffic
            self._note_failure(error)

    def on_attempt_failed(self, exchange: Exchange, error: Exception) -> None:
        """Record why the attempt had no response."""
        record = self._records.get(exchange)
        if record is None:
            return
        attempt = record.attempts[-1]
        attempt.error = describe_failure(error)
        self._end_attempt(exchange, attempt, time_ns())

    def on_finished(self, exchange: Exchange) -> None:
        """End the record, and pass it on."""
        if not self._records:
            return
        record = self._records.pop(exchange, None)
        if record is None:
            return
        try:
            self._end(exchange, record)
            self._sink.submit(record)
            exchange.add_exemplar(record.context.trace_id.decode("ascii").rjust(32, "0"))  # as the span is exported
        except Exception as error:  # tracing must not affect traffic
            self._note_failure(error)

    def _end(self, exchange: Exchange, record: RequestRecord) -> None:
        now_ns = time_ns()
        record.ended_ns = now_ns
        record.reason = exchange.reason
        attempts = exchange.attempts
        del record.attempts[attempts:]  # a middleware refused the request, or a further attempt
        if attempts:
            self._end_attempt(exchange, record.attempts[-1], now_ns)
            if record.attempts[-1].server is None:  # there was no server to try
                del record.attempts[-1]
        headers = exchange.client_headers
        record.method, record.target = exchange.method, exchange.target
        record.authority = headers.get(b"host") or b""
        record.user_agent = headers.get(b"user-agent") or b""
        record.client_address, record.protocol = exchange.client_address, exchange.protocol
        if self._pods is not None:
            record.client_pod = self._pods.find(record.client_address, record.started_ns / 1e9)
        record.service, record.destination = exchange.service, exchange.destination
        record.status, record.would_deny = exchange.status, exchange.would_deny
        record.is_grpc, record.grpc_status = exchange.is_grpc, exchange.grpc_status

    def _end_attempt(self, exchange: Exchange, attempt: AttemptRecord, now_ns: int) -> None:
        """Record the outcome, unless the attempt has ended already.

        An attempt that is repeated after its response ends when its repetition begins.
        """
        if attempt.ended_ns:
            return
        attempt.ended_ns = now_ns
        attempt.started_ns = max(attempt.started_ns, now_ns - int(exchange.attempt_seconds * 1e9))
        attempt.server, attempt.server_path = exchange.server, exchange.server_path
        if attempt.error:
            return
        reason = exchange.reason
        attempt.error = "" if not reason else RESET if reason == UPSTREAM_LOST else CANCELLED
        if not attempt.error or reason in (
            UPSTREAM_LOST,
            CLIENT_LEFT,
        ):  # else it is that of the mesh's answer
            attempt.status, attempt.grpc_status = exchange.status, exchange.grpc_status

    def _note_failure(self, error: Exception) -> None:
        self._failures += 1
        if self._failures == 1:
            _logger.error("cannot trace a request of %s; logged once", self._service, exc_info=error)


def describe_failure(error: Exception) -> str:
    """Return the kind of an attempt's failure."""
    if isinstance(error, UpstreamNotReachedError):
        return CONNECT_FAILURE
    return TIMEOUT if isinstance(error, UpstreamTimeoutError) else RESET


class TracingFactory:
    """Builds the tracing of each service."""

    kind = "otel"
    settings_type = ServiceTracing

    def __init__(
        self, sink: Sink, ratio: float, *, marks_unsampled: bool = False, pods: PodNames | None = None
    ) -> None:
        self._sink = sink
        self._ratio = ratio
        self._marks_unsampled = marks_unsampled
        self._pods = pods

    def build_middleware(self, settings: ServiceTracing, service: str) -> Tracing:
        """Build the tracing of one service."""
        self._sink.start()
        ratio = self._ratio if settings.sample is None else settings.sample
        return Tracing(service, ratio, self._sink, marks_unsampled=self._marks_unsampled, pods=self._pods)

    def collect_metrics(self) -> list[MetricFamily]:
        """Return the metrics."""
        return self._sink.collect_metrics()
