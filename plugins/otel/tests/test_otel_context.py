"""Header fields in, the trace context out, and back; OpenTelemetry's own propagators say what is right."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from maesh_otel.context import (
    B3_MULTI_FORMAT,
    B3_SINGLE_FORMAT,
    UNDECIDED,
    W3C_FORMAT,
    read_context,
    write_context,
)
from opentelemetry.propagators.b3 import B3MultiFormat, B3SingleFormat
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from maesh_core.plugin import search_trace_context
from maesh_testing import FakeExchange

TRACE, PARENT, SPAN, OWN = b"0af7651916cd43dd8448eb211c80319c", b"b7ad6b7169203331", b"00f067aa0ba902b7", b"1" * 16
W3C = b"00-%b-%b-01" % (TRACE, PARENT)
OTHERS: dict[str, Any] = {"traceparent": TraceContextTextMapPropagator, "b3": B3SingleFormat, "multi": B3MultiFormat}


def read(**fields):
    return read_context(exchange(fields).client_headers)


def exchange(fields):
    return FakeExchange(headers={name.replace("_", "-").encode(): value for name, value in fields.items()})


def extract(propagator, fields):
    """Give what a propagator of OpenTelemetry reads: identifiers and the decision, or None."""
    carrier = {name: value.decode("latin-1") for name, value in fields.items()}
    found = get_current_span(OTHERS[propagator]().extract(carrier, context={})).get_span_context()
    if not found.is_valid:
        return None
    return (b"%032x" % found.trace_id, b"%016x" % found.span_id, int(found.trace_flags.sampled))


def outline(context):
    if context is None or not context.trace_id:
        return None
    return (context.trace_id.rjust(32, b"0"), context.parent_id, max(context.decision, 0))


def test_a_request_without_fields_has_no_context():
    assert read() is None


def test_a_traceparent_is_read():
    context = read(traceparent=W3C, tracestate=b"a=1")
    assert (context.trace_id, context.parent_id, context.decision) == (TRACE, PARENT, 1)
    assert (context.formats, context.state) == (W3C_FORMAT, b"a=1")


@pytest.mark.parametrize(
    "text",
    [
        W3C,
        W3C[:-1] + b"0",
        b"01" + W3C[2:] + b"-more",
        b"01" + W3C[2:],
        b"00" + W3C[2:] + b"-more",
        b"01" + W3C[2:] + b"more",
        b"ff" + W3C[2:],
        W3C.upper(),
        W3C[:-1],
        W3C + b"0",
        b"00-" + b"0" * 32 + W3C[35:],
        W3C[:36] + b"0" * 16 + b"-01",
        b"",
        b"-",
        W3C.replace(b"0af", b"0ag"),
    ],
)
def test_a_traceparent_is_read_as_opentelemetry_reads_it(text):
    assert outline(read(traceparent=text)) == extract("traceparent", {"traceparent": text})


def test_a_repeated_traceparent_is_no_context():
    request = FakeExchange(headers={b"traceparent": W3C, b"Traceparent": W3C})
    assert read_context(request.client_headers) is None


@pytest.mark.parametrize("word", [b"-0", b"-1", b"-d", b"-1-" + SPAN, b"-x", b"-1-", b"-1-zz"])
@pytest.mark.parametrize("trace_id", [TRACE, TRACE[16:], TRACE[1:], b"0" * 32, b"0" * 16])
def test_a_b3_field_is_read_as_opentelemetry_reads_it(trace_id, word):
    text = trace_id + b"-" + PARENT + word
    ours, theirs = outline(read(b3=text)), extract("b3", {"b3": text})
    is_lenient = word in (b"-x", b"-1-", b"-1-zz")  # OpenTelemetry ignores what is wrong after the identifiers
    assert ours == theirs or (is_lenient and ours is None)


@pytest.mark.parametrize(("text", "decision"), [(b"0", 0), (b"1", 1), (b"d", 1)])
def test_a_b3_field_may_have_the_decision_alone(text, decision):
    context = read(b3=text)
    assert (context.trace_id, context.decision, context.is_debug) == (b"", decision, text == b"d")


@pytest.mark.parametrize("sampled", [None, b"0", b"1", b"true", b"false", b"x"])
@pytest.mark.parametrize("flags", [None, b"0", b"1"])
@pytest.mark.parametrize("trace_id", [TRACE, TRACE[16:], b"0" * 32, b"x"])
def test_b3_fields_are_read_as_opentelemetry_reads_them(trace_id, sampled, flags):
    fields = {"x-b3-traceid": trace_id, "x-b3-spanid": PARENT, "x-b3-sampled": sampled, "x-b3-flags": flags}
    fields = {name: text for name, text in fields.items() if text is not None}
    ours = read_context(FakeExchange(headers={name.encode(): text for name, text in fields.items()}).client_headers)
    assert outline(ours) == extract("multi", fields)


def test_b3_without_a_decision_leaves_it_to_the_mesh():
    assert read(b3=TRACE + b"-" + PARENT).decision == UNDECIDED
    assert read(x_b3_traceid=TRACE, x_b3_spanid=PARENT).decision == UNDECIDED


@pytest.mark.parametrize(("sampled", "decision"), [(b"0", 0), (b"1", 1)])
def test_b3_fields_may_have_the_decision_alone(sampled, decision):
    context = read(x_b3_sampled=sampled)
    assert (context.trace_id, context.decision) == (b"", decision)


@pytest.mark.parametrize(
    "name", ["traceparent", "Traceparent", "TRACEPARENT", "b3", "B3", "x-b3-sampled", "X-B3-Flags"]
)
def test_the_search_of_every_head_finds_each_field_in_any_case(name):
    assert FakeExchange(headers={b"X": b"1", name.encode(): b"1"}).head_matches(search_trace_context)


@pytest.mark.parametrize("name", ["tracestate", "baggage", "x-traceparent", "b33", "b", "x-b", "x-b4-sampled"])
def test_the_search_of_every_head_finds_no_other_field(name):
    assert not FakeExchange(headers={name.encode(): b"b3: traceparent: x-b3-"}).head_matches(search_trace_context)


def test_w3c_wins_over_b3_and_both_are_sent_on():
    request = exchange({"traceparent": W3C, "b3": b"0", "x-b3-sampled": b"0"})
    context = read_context(request.client_headers)
    assert context.decision == 1
    assert context.formats == W3C_FORMAT | B3_SINGLE_FORMAT | B3_MULTI_FORMAT
    write_context(request.request_headers, context, SPAN, OWN)
    headers = request.request_headers
    assert headers.get(b"traceparent") == b"00-%b-%b-01" % (TRACE, SPAN)
    assert headers.get(b"b3") == b"%b-%b-1-%b" % (TRACE, SPAN, OWN)
    assert headers.get(b"x-b3-spanid") == SPAN


def test_an_invalid_traceparent_beside_b3_is_replaced_without_its_state():
    request = exchange({"traceparent": b"00-0", "tracestate": b"a=1", "b3": b"%b-%b-1" % (TRACE, PARENT)})
    context = read_context(request.client_headers)
    write_context(request.request_headers, context, SPAN, OWN)
    assert request.request_headers.get(b"traceparent") == b"00-%b-%b-01" % (TRACE, SPAN)
    assert request.request_headers.get(b"tracestate") is None


def test_the_random_flag_of_a_trace_is_kept_and_unknown_flags_are_not():
    request = exchange({"traceparent": W3C[:-2] + b"ff"})
    write_context(request.request_headers, read_context(request.client_headers), SPAN, OWN)
    assert request.request_headers.get(b"traceparent").endswith(b"-03")


@given(trace_id=st.integers(1, (1 << 128) - 1), parent=st.integers(1, (1 << 64) - 1), own=st.integers(1, (1 << 64) - 1))
@pytest.mark.parametrize("kind", ["traceparent", "b3", "multi"])
def test_opentelemetry_reads_what_is_written(kind, trace_id, parent, own):
    trace_text, parent_text, own_text = b"%032x" % trace_id, b"%016x" % parent, b"%016x" % own
    fields = {
        "traceparent": {"traceparent": b"00-%b-%b-01" % (trace_text, parent_text)},
        "b3": {"b3": b"%b-%b-1" % (trace_text, parent_text)},
        "multi": {"x-b3-traceid": trace_text, "x-b3-spanid": parent_text, "x-b3-sampled": b"1"},
    }[kind]
    request = exchange(fields)
    context = read_context(request.client_headers)
    assert outline(context) == extract(kind, fields) == (trace_text, parent_text, 1)
    write_context(request.request_headers, context, own_text, parent_text)
    written = {name.decode(): value for name, value in request.request_headers.items()}
    assert extract(kind, {name.lower(): text for name, text in written.items()}) == (trace_text, own_text, 1)


@given(text=st.binary(max_size=80).filter(lambda text: not set(text) & {0, 10, 13}))
@pytest.mark.parametrize("name", [b"traceparent", b"b3", b"x-b3-traceid", b"x-b3-sampled", b"x-b3-flags"])
def test_any_bytes_are_a_context_or_none(name, text):
    headers = FakeExchange(headers={b"x-b3-spanid": PARENT, name: text}).client_headers
    context = read_context(headers)
    assert context is None or context.decision in (0, 1, UNDECIDED)
