"""Spans in, OTLP out: the same message as the SDK makes of the same spans."""

from hypothesis import given
from hypothesis import strategies as st
from maesh_otel.context import W3C_FORMAT, TraceContext
from maesh_otel.exporting import BatchBuilder
from maesh_otel.trace import AttemptRecord, RequestRecord
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource

TIMES = st.integers(1, (1 << 63) - 1)
SPAN_IDS = st.integers(1, (1 << 64) - 1).map(lambda number: b"%016x" % number)
TRACE_IDS = st.integers(1, (1 << 128) - 1).map(lambda number: b"%032x" % number) | SPAN_IDS
TEXTS = st.binary(max_size=300) | st.sampled_from([b"a", b"b:80"])
STATUSES = st.sampled_from([0, 200, 204, 404, 429, 503])
GRPC_STATUSES = st.none() | st.integers(0, 16)
STATES = st.sampled_from([b"", b"a=1", b"a=1,b@c=2", b"rojo=00f067aa0ba902b7"])
RESOURCE = Resource({"service.name": "maesh", "number": 7}, schema_url="https://opentelemetry.io/schemas/1.0")


@st.composite
def records(draw):
    context = TraceContext(draw(TRACE_IDS), draw(st.just(b"") | SPAN_IDS), 1, W3C_FORMAT, state=draw(STATES))
    record = RequestRecord(context, draw(SPAN_IDS), draw(TIMES))
    record.ended_ns, record.status, record.grpc_status = draw(TIMES), draw(STATUSES), draw(GRPC_STATUSES)
    record.method = draw(st.sampled_from([b"GET", b"POST", b"PURGE"]))
    record.target, record.authority, record.user_agent = b"/" + draw(TEXTS), draw(TEXTS), draw(TEXTS)
    record.client_address, record.protocol = "::1", draw(st.sampled_from(["HTTP/1.0", "HTTP/1.1", "HTTP/2"]))
    record.service, record.destination, record.is_grpc = "test/app:80", "test/app:80", draw(st.booleans())
    record.reason = draw(st.sampled_from(["", "too many requests", "the client left"]))
    for _ in range(draw(st.integers(0, 3))):
        attempt = AttemptRecord(draw(SPAN_IDS), draw(TIMES))
        attempt.ended_ns, attempt.status, attempt.grpc_status = draw(TIMES), draw(STATUSES), draw(GRPC_STATUSES)
        attempt.server, attempt.error = ("10.0.0.1", draw(st.integers(1, 65535))), draw(st.sampled_from(["", "reset"]))
        record.attempts.append(attempt)
    return record


@given(made=st.lists(records(), max_size=3))
def test_spans_are_encoded_as_the_sdk_encodes_them(made):
    ours, theirs = (BatchBuilder(RESOURCE, "2", is_encoding=is_encoding) for is_encoding in (True, False))
    batch = ours.join([span for record in made for span in ours.build(record)])
    assert len(batch) == sum(1 + len(record.attempts) for record in made)
    if made:
        assert batch.build_request() == encode_spans([span for record in made for span in theirs.build(record)])
