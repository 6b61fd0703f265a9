"""Makes spans from records: one of kind SERVER for the request, one of kind CLIENT for each attempt.

Runs in the thread that exports. Attributes are made by shared_attributes.py. The query of a target is left out, because
it may contain secrets.
"""

from typing import Final

from maesh_core.plugin import CLIENT_LEFT, UPSTREAM_LOST
from maesh_otel.attributes import Attributes, AttributeValues
from maesh_otel.shared_attributes import (
    TEXT_LIMIT,
    MethodAttributes,
    describe_attempt_outcome,
    describe_authority,
    describe_call,
    describe_client,
    describe_method,
    describe_path,
    describe_reason,
    describe_server,
    describe_server_outcome,
    describe_service,
    describe_user_agent,
)
from maesh_otel.trace import AttemptRecord, RequestRecord

SERVER: Final = 2
CLIENT: Final = 3
"""Kinds of spans, as OTLP encodes them."""

_EVENTS: Final = {429: "maesh.limited", 403: "maesh.denied", 503: "maesh.unavailable"}
_BREAKER_REASON: Final = "the circuit breaker is open"


class SpanEvent:
    """An event of a span."""

    def __init__(self, name: str, time_ns: int, attributes: AttributeValues) -> None:
        self.name = name
        self.time_ns = time_ns
        self.attributes = attributes

    def __repr__(self) -> str:
        return f"<SpanEvent {self.name} {self.attributes}>"


class Span:
    """A span that has ended. Identifiers are hexadecimal digits; `parent_id` is empty for the first span of a trace.

    `attributes` are in order, and no two of them have a name in common.
    """

    def __init__(
        self,
        record: RequestRecord,
        named_by: MethodAttributes,
        kind: int,
        span_id: bytes,
        attributes: list[Attributes],
    ) -> None:
        self.named_by = named_by
        self.kind = kind
        self.trace_id = record.context.trace_id
        self.span_id = span_id
        self.parent_id = record.context.parent_id if kind == SERVER else record.span_id
        self.state = show_state(record.context.state)
        self.started_ns = record.started_ns
        self.ended_ns = record.ended_ns
        self.attributes = attributes
        self.events: list[SpanEvent] = []
        self.is_error = False

    def __repr__(self) -> str:
        return f"<Span {self.name} {self.values}>"

    @property
    def name(self) -> str:
        """The name of the method or of the gRPC call."""
        return self.named_by.name

    @property
    def values(self) -> AttributeValues:
        """The value of each attribute, by name."""
        return {name: value for each in self.attributes for name, value in each.values.items()}


class _Request:
    """What the spans of a request share."""

    def __init__(self, record: RequestRecord) -> None:
        self.path = describe_path(record.target.partition(b"?")[0])
        self.method = describe_method(record.method)
        self.call: MethodAttributes | None = describe_call(self.path.path) if record.is_grpc else None
        self.named_by = self.method if self.call is None else self.call

    def begin(self) -> list[Attributes]:
        """Return the attributes that each span begins with."""
        return [self.method] if self.call is None else [self.method, self.call]


def build_spans(record: RequestRecord) -> list[Span]:
    """Make the spans of one request, its own first."""
    request = _Request(record)
    spans = [_build_server_span(record, request)]
    for number, attempt in enumerate(record.attempts):
        spans.append(_build_client_span(record, request, attempt, number))
    return spans


def _build_server_span(record: RequestRecord, request: _Request) -> Span:
    attributes = request.begin()
    attributes.append(request.path)
    attributes.append(describe_authority(record.authority))
    attributes.append(describe_client(record.client_address, record.client_pod))
    attributes.append(describe_service(record.protocol, record.service, record.destination))
    if record.user_agent:
        attributes.append(describe_user_agent(record.user_agent))
    if record.reason:
        attributes.append(describe_reason("maesh.reason", record.reason))
    if record.would_deny:
        attributes.append(describe_reason("maesh.would_deny", record.would_deny))
    failure = "reset" if record.reason == UPSTREAM_LOST else ""
    outcome = describe_server_outcome(record.status, record.grpc_status, failure)
    attributes.append(outcome)
    span = Span(record, request.named_by, SERVER, record.span_id, attributes)
    span.is_error = outcome.error != ""
    _add_events(span, record)
    return span


def _build_client_span(record: RequestRecord, request: _Request, attempt: AttemptRecord, number: int) -> Span:
    address, port = attempt.server or ("", 0)
    attributes = request.begin()
    attributes.extend(describe_server(address, port, request.path, record.destination))
    if attempt.server_path:
        attributes.append(Attributes({"maesh.server_path": attempt.server_path}))
    if number:
        attributes.append(Attributes({"http.request.resend_count": number}))
    outcome = describe_attempt_outcome(attempt.status, attempt.grpc_status, attempt.error)
    attributes.append(outcome)
    span = Span(record, request.named_by, CLIENT, attempt.span_id, attributes)
    span.started_ns, span.ended_ns = attempt.started_ns, attempt.ended_ns
    span.is_error = outcome.error != ""
    return span


def _add_events(span: Span, record: RequestRecord) -> None:
    """Add an event for each retry, and one for an answer of the mesh itself."""
    for number in range(1, len(record.attempts)):
        former = record.attempts[number - 1]
        values: AttributeValues = {"maesh.retry.cause": former.error or str(former.status), "maesh.retry.count": number}
        span.events.append(SpanEvent("maesh.retry", record.attempts[number].started_ns, values))
    if record.reason and record.reason not in (CLIENT_LEFT, UPSTREAM_LOST):
        name = "maesh.breaker_open" if record.reason == _BREAKER_REASON else _EVENTS.get(record.status, "maesh.answer")
        span.events.append(SpanEvent(name, record.ended_ns, {"maesh.reason": record.reason[:TEXT_LIMIT]}))


def show_state(text: bytes) -> str:
    """Return a `tracestate` as text; empty if it has other characters than those of RFC 20."""
    return text[:TEXT_LIMIT].decode() if text and text.isascii() else ""
