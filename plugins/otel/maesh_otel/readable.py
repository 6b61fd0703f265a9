"""Makes the SDK's own spans: for an exporter of the SDK that cannot send what encoding.py makes, and for its tests."""

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from maesh_otel.spans import SERVER, Span

_UNSET, _ERROR = Status(StatusCode.UNSET), Status(StatusCode.ERROR)
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


def build_readable_span(span: Span, resource: Resource, scope: InstrumentationScope) -> ReadableSpan:
    """Make a span of the SDK."""
    trace_id, is_server = int(span.trace_id, 16), span.kind == SERVER
    state = TraceState.from_header([span.state]) if span.state else TraceState()
    parent = SpanContext(trace_id, int(span.parent_id, 16), is_server, _SAMPLED, state) if span.parent_id else None
    return ReadableSpan(
        name=span.name,
        context=SpanContext(trace_id, int(span.span_id, 16), is_remote=False, trace_flags=_SAMPLED, trace_state=state),
        parent=parent,
        resource=resource,
        attributes=span.values,
        events=[Event(event.name, event.attributes, event.time_ns) for event in span.events],
        kind=SpanKind.SERVER if is_server else SpanKind.CLIENT,
        status=_ERROR if span.is_error else _UNSET,
        start_time=span.started_ns,
        end_time=span.ended_ns,
        instrumentation_scope=scope,
    )
