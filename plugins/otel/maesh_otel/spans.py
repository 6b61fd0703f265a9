"""Makes the SDK's spans from records: one of kind SERVER for the request, one of kind CLIENT for each attempt.

Runs in the thread that exports. Names, attributes and statuses follow OpenTelemetry's semantic conventions for HTTP and
RPC (gRPC); those that begin with `maesh.` are the mesh's. The query of a target is left out, because it may contain
secrets.
"""

from collections.abc import Iterable
from typing import TypeAlias

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from maesh_core.plugin import CLIENT_LEFT, UPSTREAM_LOST
from maesh_otel.trace import AttemptRecord, RequestRecord

TEXT_LIMIT = 1024
"""Longest text of an attribute, in characters."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"})
_GRPC_STATUSES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
_GRPC_SERVER_ERRORS = frozenset({2, 4, 12, 13, 14, 15})
"""The gRPC statuses that are errors of a server's span; of a client's span, all but OK are."""
_EVENTS = {429: "maesh.limited", 403: "maesh.denied", 503: "maesh.unavailable"}
_BREAKER_REASON = "the circuit breaker is open"
_UNSET, _ERROR = Status(StatusCode.UNSET), Status(StatusCode.ERROR)
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)

_Attributes: TypeAlias = dict[str, str | int]


class SpanBuilder:
    """Makes the spans of one process."""

    def __init__(self, resource: Resource, version: str) -> None:
        self._resource = resource
        self._scope = InstrumentationScope("maesh", version)

    def __repr__(self) -> str:
        return f"<SpanBuilder {self._resource.attributes.get('service.name')}>"

    def build(self, record: RequestRecord) -> list[ReadableSpan]:
        """Make the spans of one request, its own first."""
        request = _Request(record)
        state = parse_state(record.context.state)
        server = self._build_server_span(record, request, state)
        return [
            server,
            *(
                self._build_client_span(record, request, attempt, number, state)
                for number, attempt in enumerate(record.attempts)
            ),
        ]

    def _build_server_span(self, record: RequestRecord, request: "_Request", state: TraceState) -> ReadableSpan:
        attributes = {
            **request.attributes,
            "url.path": request.path,
            "url.scheme": "http",
            "server.address": request.host,
            "server.port": request.port,
            "client.address": record.client_address,
            "network.peer.address": record.client_address,
            "network.protocol.name": "http",
            "network.protocol.version": request.version,
            "maesh.service": record.service,
            "maesh.destination": record.destination,
        }
        if record.user_agent:
            attributes["user_agent.original"] = _show(record.user_agent)
        if record.reason:
            attributes["maesh.reason"] = record.reason[:TEXT_LIMIT]
        error = _add_outcome(attributes, record.status, record.grpc_status, first_error=500)
        if not error and record.reason and record.attempts and record.attempts[-1].error == "reset":
            error = attributes["error.type"] = "reset"
        parent = record.context.parent_id
        return self._build_span(
            record,
            request.name,
            SpanKind.SERVER,
            span_id=record.span_id,
            parent_id=parent,
            is_remote=True,
            times=(record.started_ns, record.ended_ns),
            attributes=attributes,
            is_error=bool(error),
            state=state,
            events=list(_build_events(record)),
        )

    def _build_client_span(
        self, record: RequestRecord, request: "_Request", attempt: AttemptRecord, number: int, state: TraceState
    ) -> ReadableSpan:
        address, port = attempt.server or ("", 0)
        shown = f"[{address}]" if ":" in address else address
        attributes: _Attributes = {
            **request.attributes,
            "url.full": f"http://{shown}:{port}{request.path}",
            "server.address": address,
            "server.port": port,
            "network.peer.address": address,
            "network.peer.port": port,
            "maesh.destination": record.destination,
        }
        if number:
            attributes["http.request.resend_count"] = number
        error = _add_outcome(attributes, attempt.status, attempt.grpc_status, first_error=400)
        if attempt.error:
            error = attributes["error.type"] = attempt.error
        return self._build_span(
            record,
            request.name,
            SpanKind.CLIENT,
            span_id=attempt.span_id,
            parent_id=record.span_id,
            is_remote=False,
            times=(attempt.started_ns, attempt.ended_ns),
            attributes=attributes,
            is_error=bool(error),
            state=state,
        )

    def _build_span(
        self,
        record: RequestRecord,
        name: str,
        kind: SpanKind,
        *,
        span_id: bytes,
        parent_id: bytes,
        is_remote: bool,
        times: tuple[int, int],
        attributes: _Attributes,
        is_error: bool,
        state: TraceState,
        events: Iterable[Event] = (),
    ) -> ReadableSpan:
        trace_id = int(record.context.trace_id, 16)
        parent = SpanContext(trace_id, int(parent_id, 16), is_remote, _SAMPLED, state) if parent_id else None
        return ReadableSpan(
            name=name,
            context=SpanContext(trace_id, int(span_id, 16), False, _SAMPLED, state),  # noqa: FBT003
            parent=parent,
            resource=self._resource,
            attributes=attributes,
            events=list(events),
            kind=kind,
            status=_ERROR if is_error else _UNSET,
            start_time=times[0],
            end_time=times[1],
            instrumentation_scope=self._scope,
        )


class _Request:
    """What the spans of a request share."""

    def __init__(self, record: RequestRecord) -> None:
        method = record.method.decode("latin-1")
        is_known = method in _METHODS
        self.attributes: _Attributes = {"http.request.method": method if is_known else "_OTHER"}
        if not is_known:
            self.attributes["http.request.method_original"] = method[:TEXT_LIMIT]
        self.path = _show(record.target.partition(b"?")[0])
        self.name = method if is_known else "HTTP"
        self.host, self.port = split_authority(_show(record.authority))
        self.version = {"HTTP/2": "2", "HTTP/1.0": "1.0"}.get(record.protocol, "1.1")
        if record.is_grpc:
            service, _, called = self.path.removeprefix("/").rpartition("/")
            self.name = f"{service}/{called}"
            self.attributes |= {"rpc.system": "grpc", "rpc.service": service, "rpc.method": called}


def _add_outcome(attributes: _Attributes, status: int, grpc_status: int | None, *, first_error: int) -> str:
    """Add the statuses, and `error.type` if one of them is an error of this kind of span; return it."""
    error = ""
    if status:
        attributes["http.response.status_code"] = status
        error = str(status) if status >= first_error else ""
    if grpc_status is not None:
        attributes["rpc.grpc.status_code"] = grpc_status
        if grpc_status and (first_error < 500 or grpc_status in _GRPC_SERVER_ERRORS):
            error = _GRPC_STATUSES[grpc_status]
    if error:
        attributes["error.type"] = error
    return error


def _build_events(record: RequestRecord) -> Iterable[Event]:
    """Make an event for each retry, and one for an answer of the mesh itself."""
    for number, (former, attempt) in enumerate(zip(record.attempts, record.attempts[1:], strict=False), start=1):
        cause = former.error or str(former.status)
        yield Event("maesh.retry", {"maesh.retry.cause": cause, "maesh.retry.count": number}, attempt.started_ns)
    if record.reason and record.reason not in (CLIENT_LEFT, UPSTREAM_LOST):
        name = "maesh.breaker_open" if record.reason == _BREAKER_REASON else _EVENTS.get(record.status, "maesh.answer")
        yield Event(name, {"maesh.reason": record.reason[:TEXT_LIMIT]}, record.ended_ns)


def split_authority(text: str) -> tuple[str, int]:
    """Split a Host field into the host, without brackets, and the port; 80 without one."""
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdecimal()):
        host, port = text, "80"
    return host.removeprefix("[").removesuffix("]"), int(port[:5])


def parse_state(text: bytes) -> TraceState:
    """Parse a `tracestate`; one that is not valid is empty."""
    return TraceState.from_header([_show(text)]) if text else TraceState()


def _show(text: bytes) -> str:
    return text[:TEXT_LIMIT].decode("utf-8", "backslashreplace")
