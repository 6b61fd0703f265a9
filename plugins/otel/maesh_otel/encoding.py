"""Encodes spans as OTLP: the fields of `Span` in opentelemetry/proto/trace/v1/trace.proto.

The SDK's encoder takes 80 us for the two spans of a request. This one takes 3 us, because the attributes of spans are
encoded already.
"""

import struct
from binascii import unhexlify
from typing import Final

from maesh_otel.attributes import EVENT_ATTRIBUTE, encode_attributes, encode_bytes, encode_start
from maesh_otel.spans import SERVER, Span, SpanEvent, build_spans
from maesh_otel.trace import RequestRecord

_pack_times: Final = struct.Struct("<cQcQ").pack
_pack_time: Final = struct.Struct("<cQ").pack
_SPAN: Final = b"\x12"
"""The tag of the field `spans` of ScopeSpans."""
_STATUS_UNSET: Final = b"\x7a\x00"
_STATUS_ERROR: Final = b"\x7a\x02\x18\x02"
_FLAGS: Final = b"\x85\x01\x00\x01\x00\x00"
_FLAGS_REMOTE: Final = b"\x85\x01\x00\x03\x00\x00"
"""Whether the parent is in another process (SpanFlags), as fixed32."""


def encode_record(record: RequestRecord) -> list[bytes]:
    """Encode the spans of a request, each as a field of the message ScopeSpans."""
    trace_id = unhexlify(record.context.trace_id).rjust(16, b"\0")
    return [_encode_span(span, trace_id) for span in build_spans(record)]


def _encode_span(span: Span, trace_id: bytes) -> bytes:
    is_server = span.kind == SERVER
    parts = [
        b"\x0a\x10",
        trace_id,
        b"\x12\x08",
        unhexlify(span.span_id),
        span.named_by.encoded_name,
        b"\x30\x02" if is_server else b"\x30\x03",
        _pack_times(b"\x39", span.started_ns, b"\x41", span.ended_ns),
    ]
    if span.state:
        parts.append(encode_bytes(b"\x1a", span.state.encode()))
    if span.parent_id:
        parts.append(b"\x22\x08")
        parts.append(unhexlify(span.parent_id))
    parts.extend([each.encoded for each in span.attributes])
    parts.extend([encode_bytes(b"\x5a", _encode_event(event)) for event in span.events])
    parts.append(_STATUS_ERROR if span.is_error else _STATUS_UNSET)
    parts.append(_FLAGS_REMOTE if is_server and span.parent_id else _FLAGS)
    content = b"".join(parts)
    return encode_start(_SPAN, len(content)) + content


def _encode_event(event: SpanEvent) -> bytes:
    start = _pack_time(b"\x09", event.time_ns) + encode_bytes(b"\x12", event.name.encode())
    return start + encode_attributes(EVENT_ATTRIBUTE, event.attributes)
