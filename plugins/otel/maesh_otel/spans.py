"""Makes spans from records: one of kind SERVER for the request, one of kind CLIENT for each attempt.

Runs in the thread that exports. Names, attributes and statuses follow OpenTelemetry's semantic conventions for HTTP and
RPC (gRPC); those that begin with `maesh.` are the mesh's. The query of a target is left out, because it may contain
secrets.
"""

from typing import Final

from maesh_core.plugin import CLIENT_LEFT, GRPC_SERVER_ERRORS, GRPC_STATUS_NAMES, UPSTREAM_LOST, join_port
from maesh_otel.trace import AttemptRecord, RequestRecord

SERVER: Final = 2
CLIENT: Final = 3
"""Kinds of spans, as OTLP encodes them."""
TEXT_LIMIT: Final = 1024
"""Longest text of an attribute, in characters."""

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"})
_EVENTS: Final = {429: "maesh.limited", 403: "maesh.denied", 503: "maesh.unavailable"}
_BREAKER_REASON: Final = "the circuit breaker is open"
_VERSIONS: Final = {"HTTP/2": "2", "HTTP/1.0": "1.0"}

Attributes = dict[str, str | int]


class SpanEvent:
    """An event of a span."""

    def __init__(self, name: str, time_ns: int, attributes: Attributes) -> None:
        self.name = name
        self.time_ns = time_ns
        self.attributes = attributes

    def __repr__(self) -> str:
        return f"<SpanEvent {self.name} {self.attributes}>"


class Span:
    """A span that has ended. Identifiers are hexadecimal digits; `parent_id` is empty for the first span of a trace."""

    def __init__(self, record: RequestRecord, name: str, kind: int, span_id: bytes, attributes: Attributes) -> None:
        self.name = name
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
        return f"<Span {self.name} {self.attributes}>"


class _Request:
    """What the spans of a request share."""

    def __init__(self, record: RequestRecord) -> None:
        method = record.method.decode("latin-1")
        is_known = method in _METHODS
        self.attributes: Attributes = {"http.request.method": method if is_known else "_OTHER"}
        if not is_known:
            self.attributes["http.request.method_original"] = method[:TEXT_LIMIT]
        self.path = _show(record.target.partition(b"?")[0])
        self.name = method if is_known else "HTTP"
        if record.is_grpc:
            service, _, called = self.path.removeprefix("/").rpartition("/")
            self.name = f"{service}/{called}"
            self.attributes["rpc.system"] = "grpc"
            self.attributes["rpc.service"] = service
            self.attributes["rpc.method"] = called


def build_spans(record: RequestRecord) -> list[Span]:
    """Make the spans of one request, its own first."""
    request = _Request(record)
    spans = [_build_server_span(record, request)]
    for number, attempt in enumerate(record.attempts):
        spans.append(_build_client_span(record, request, attempt, number))
    return spans


def _build_server_span(record: RequestRecord, request: _Request) -> Span:
    host, port = split_authority(_show(record.authority))
    attributes = request.attributes.copy()
    attributes["url.path"] = request.path
    attributes["url.scheme"] = "http"
    attributes["server.address"] = host
    attributes["server.port"] = port
    attributes["client.address"] = record.client_address
    if record.client_pod:
        namespace, _, name = record.client_pod.partition("/")
        attributes["maesh.client.k8s.namespace.name"] = namespace
        attributes["maesh.client.k8s.pod.name"] = name
    attributes["network.protocol.version"] = _VERSIONS.get(record.protocol, "1.1")
    attributes["maesh.service"] = record.service
    attributes["maesh.destination"] = record.destination
    if record.user_agent:
        attributes["user_agent.original"] = _show(record.user_agent)
    if record.reason:
        attributes["maesh.reason"] = record.reason[:TEXT_LIMIT]
    if record.would_deny:
        attributes["maesh.would_deny"] = record.would_deny[:TEXT_LIMIT]
    error = _add_outcome(attributes, record.status, record.grpc_status, first_error=500)
    if not error and record.reason == UPSTREAM_LOST:
        error = attributes["error.type"] = "reset"
    span = Span(record, request.name, SERVER, record.span_id, attributes)
    span.is_error = error != ""
    _add_events(span, record)
    return span


def _build_client_span(record: RequestRecord, request: _Request, attempt: AttemptRecord, number: int) -> Span:
    address, port = attempt.server or ("", 0)
    attributes = request.attributes.copy()
    attributes["url.full"] = f"http://{join_port(address, port)}{request.path}"
    attributes["server.address"] = address
    attributes["server.port"] = port
    attributes["maesh.destination"] = record.destination
    if attempt.server_path:
        attributes["maesh.server_path"] = attempt.server_path
    if number:
        attributes["http.request.resend_count"] = number
    error = _add_outcome(attributes, attempt.status, attempt.grpc_status, first_error=400)
    if attempt.error:
        error = attributes["error.type"] = attempt.error
    span = Span(record, request.name, CLIENT, attempt.span_id, attributes)
    span.started_ns, span.ended_ns = attempt.started_ns, attempt.ended_ns
    span.is_error = error != ""
    return span


def _add_outcome(attributes: Attributes, status: int, grpc_status: int | None, *, first_error: int) -> str:
    """Add the statuses, and `error.type` if one of them is an error of this kind of span; return it."""
    error = ""
    if status:
        attributes["http.response.status_code"] = status
        error = str(status) if status >= first_error else ""
    if grpc_status is not None:
        attributes["rpc.grpc.status_code"] = grpc_status
        if grpc_status and (first_error < 500 or grpc_status in GRPC_SERVER_ERRORS):
            error = GRPC_STATUS_NAMES[grpc_status]
    if error:
        attributes["error.type"] = error
    return error


def _add_events(span: Span, record: RequestRecord) -> None:
    """Add an event for each retry, and one for an answer of the mesh itself."""
    for number in range(1, len(record.attempts)):
        former = record.attempts[number - 1]
        attributes: Attributes = {"maesh.retry.cause": former.error or str(former.status), "maesh.retry.count": number}
        span.events.append(SpanEvent("maesh.retry", record.attempts[number].started_ns, attributes))
    if record.reason and record.reason not in (CLIENT_LEFT, UPSTREAM_LOST):
        name = "maesh.breaker_open" if record.reason == _BREAKER_REASON else _EVENTS.get(record.status, "maesh.answer")
        span.events.append(SpanEvent(name, record.ended_ns, {"maesh.reason": record.reason[:TEXT_LIMIT]}))


def split_authority(text: str) -> tuple[str, int]:
    """Split a Host field into the host, without brackets, and the port; 80 without one."""
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdecimal()):
        host, port = text, "80"
    return host.removeprefix("[").removesuffix("]"), int(port[:5])


def show_state(text: bytes) -> str:
    """Return a `tracestate` as text; empty if it has other characters than those of RFC 20."""
    return text[:TEXT_LIMIT].decode() if text and text.isascii() else ""


def _show(text: bytes) -> str:
    return text[:TEXT_LIMIT].decode("utf-8", "backslashreplace")
