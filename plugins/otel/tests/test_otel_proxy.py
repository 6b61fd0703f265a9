"""Events of exchanges in, records of those that are sampled out; never an effect on the exchange but its headers."""

import logging
from time import time
from typing import Any

import pytest
from maesh_otel.proxy import CANCELLED, CONNECT_FAILURE, RESET, TIMEOUT, Tracing, TracingFactory
from maesh_otel.settings import ServiceTracing

from maesh_core.errors import ConnectTimeoutError
from maesh_core.plugin import (
    CLIENT_LEFT,
    UPSTREAM_LOST,
    UpstreamNotReachedError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
    search_trace_context,
)
from maesh_testing import FakeExchange, FakeNode

TRACE, PARENT = b"0af7651916cd43dd8448eb211c80319c", b"b7ad6b7169203331"
SAMPLED = {b"traceparent": b"00-%b-%b-01" % (TRACE, PARENT)}
FIRST, SECOND = ("10.0.0.1", 80), ("10.0.0.2", 80)


class Sink:
    def __init__(self):
        self.records, self.starts = [], 0

    def start(self):
        self.starts += 1

    def submit(self, record):
        self.records.append(record)

    def collect_metrics(self):
        return []


@pytest.fixture
def sink():
    return Sink()


@pytest.fixture
def tracing(sink):
    return Tracing("test/app", 0.0, sink)


def attempt(exchange, server, **state):
    """Do what the proxy does when an attempt begins, and then what its outcome says."""
    exchange.attempts += 1
    exchange.server = server
    for name, value in state.items():
        setattr(exchange, name, value)


def test_a_sampled_request_is_recorded_with_its_attempt(tracing, sink):
    exchange = FakeExchange(b"PUT", b"/a?b", headers=SAMPLED | {b"User-Agent": b"curl"}, client_address="10.1.1.1")
    tracing.on_request(exchange)
    attempt(exchange, FIRST, status=201, attempt_seconds=0.001)
    tracing.on_finished(exchange)
    (record,) = sink.records
    assert (record.method, record.target, record.authority) == (b"PUT", b"/a?b", b"app.test.maesh")
    assert (record.client_address, record.user_agent, record.status) == ("10.1.1.1", b"curl", 201)
    (made,) = record.attempts
    assert (made.server, made.status, made.error) == (FIRST, 201, "")
    assert record.started_ns <= made.started_ns <= made.ended_ns <= record.ended_ns
    sent = exchange.request_headers.get(b"traceparent")
    assert sent == b"00-%b-%b-01" % (TRACE, made.span_id)
    assert len({record.span_id, made.span_id, PARENT}) == 3


@pytest.mark.parametrize("headers", [{}, {b"traceparent": SAMPLED[b"traceparent"][:-1] + b"0"}, {b"b3": b"0"}])
def test_a_request_that_is_not_sampled_is_neither_changed_nor_recorded(tracing, sink, headers):
    exchange = FakeExchange(headers=headers)
    before = exchange.request_headers.items()
    tracing.on_request(exchange)
    attempt(exchange, FIRST, status=503)
    tracing.on_attempt(exchange)
    tracing.on_attempt_failed(exchange, UpstreamTimeoutError("x"))
    tracing.on_finished(exchange)
    assert exchange.request_headers.items() == before
    assert sink.records == []


def test_a_share_of_requests_without_a_context_starts_a_trace(sink):
    tracing = Tracing("test/app", 1.0, sink)
    exchange = FakeExchange()
    tracing.on_request(exchange)
    tracing.on_finished(exchange)
    context = sink.records[0].context
    assert (len(context.trace_id), context.parent_id) == (32, b"")
    assert exchange.request_headers.get(b"traceparent").startswith(b"00-%b-" % context.trace_id)


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_a_deferred_decision_is_made_with_the_ratio_and_keeps_the_trace(sink, ratio):
    tracing = Tracing("test/app", ratio, sink)
    exchange = FakeExchange(headers={b"b3": TRACE + b"-" + PARENT})
    tracing.on_request(exchange)
    tracing.on_finished(exchange)
    assert [record.context.trace_id for record in sink.records] == [TRACE] * int(ratio)


def test_an_exemplar_has_the_trace_as_it_is_exported(tracing):
    exchange = FakeExchange(headers={b"b3": TRACE[:16] + b"-" + PARENT + b"-1"})
    tracing.on_request(exchange)
    tracing.on_finished(exchange)
    assert exchange.exemplars == ["0" * 16 + TRACE[:16].decode()]


def test_a_decision_without_a_trace_starts_one(tracing, sink):
    exchange = FakeExchange(headers={b"b3": b"d"})
    tracing.on_request(exchange)
    tracing.on_finished(exchange)
    record = sink.records[0]
    assert exchange.request_headers.get(b"b3").startswith(record.context.trace_id)
    assert b"-d-" + record.span_id in exchange.request_headers.get(b"b3")


def test_requests_that_were_not_chosen_can_be_marked(sink):
    tracing = Tracing("test/app", 0.0, sink, marks_unsampled=True)
    exchange = FakeExchange()
    tracing.on_request(exchange)
    assert exchange.request_headers.get(b"traceparent").endswith(b"-00")
    denied = FakeExchange(headers={b"b3": b"0"})
    tracing.on_request(denied)
    assert denied.request_headers.get(b"traceparent") is None


def test_every_attempt_has_a_record_and_sends_its_own_span(tracing, sink):
    exchange = FakeExchange(headers=SAMPLED)
    tracing.on_request(exchange)
    attempt(exchange, FIRST)
    first = exchange.request_headers.get(b"traceparent")
    tracing.on_attempt_failed(exchange, UpstreamNotReachedError("x"))
    tracing.on_attempt(exchange)
    attempt(exchange, SECOND, status=503)
    tracing.on_attempt(exchange)
    attempt(exchange, FIRST, status=200)
    tracing.on_finished(exchange)
    attempts = sink.records[0].attempts
    assert [(each.server, each.status, each.error) for each in attempts] == [
        (FIRST, 0, CONNECT_FAILURE),
        (SECOND, 503, ""),
        (FIRST, 200, ""),
    ]
    assert first == b"00-%b-%b-01" % (TRACE, attempts[0].span_id)
    assert exchange.request_headers.get_all(b"traceparent") == [b"00-%b-%b-01" % (TRACE, attempts[2].span_id)]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UpstreamNotReachedError("x"), CONNECT_FAILURE),
        (ConnectTimeoutError("x"), CONNECT_FAILURE),
        (UpstreamTimeoutError("x"), TIMEOUT),
        (UpstreamProtocolError("x"), RESET),
    ],
)
def test_a_failed_attempt_has_the_kind_of_its_failure(tracing, sink, error, kind):
    exchange = FakeExchange(headers=SAMPLED)
    tracing.on_request(exchange)
    attempt(exchange, FIRST)
    tracing.on_attempt_failed(exchange, error)
    exchange.status, exchange.reason = 502, "cannot connect"
    tracing.on_finished(exchange)
    (record,) = sink.records
    assert (record.status, record.reason) == (502, "cannot connect")
    assert [(each.status, each.error) for each in record.attempts] == [(0, kind)]


def test_an_attempt_that_a_middleware_refuses_has_no_record(tracing, sink):
    exchange = FakeExchange(headers=SAMPLED)
    tracing.on_request(exchange)
    attempt(exchange, FIRST, status=503)
    tracing.on_attempt(exchange)
    exchange.reason = "the circuit breaker is open"
    tracing.on_finished(exchange)
    assert [(each.server, each.status) for each in sink.records[0].attempts] == [(FIRST, 503)]


def test_a_request_without_a_usable_server_has_no_attempt(tracing, sink):
    exchange = FakeExchange(headers=SAMPLED)
    tracing.on_request(exchange)
    attempt(exchange, None, status=503, reason="the service has no usable server")
    tracing.on_finished(exchange)
    assert sink.records[0].attempts == []


@pytest.mark.parametrize(
    ("reason", "before", "after"),
    [
        (CLIENT_LEFT, 0, (0, CANCELLED)),
        (CLIENT_LEFT, 200, (200, CANCELLED)),
        (UPSTREAM_LOST, 200, (200, RESET)),
        ("the request's body did not arrive in time", 408, (0, CANCELLED)),
    ],
)
def test_an_attempt_that_was_cut_has_no_status_of_the_meshs_answer(tracing, sink, reason, before, after):
    exchange = FakeExchange(headers=SAMPLED)
    tracing.on_request(exchange)
    attempt(exchange, FIRST, status=before, reason=reason)
    tracing.on_finished(exchange)
    assert [(each.status, each.error) for each in sink.records[0].attempts] == [after]


def test_a_failure_is_logged_once_and_the_request_goes_on(tracing, sink, caplog):
    class Broken(FakeExchange):
        def head_matches(self, search):
            raise RuntimeError("broken")

    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            exchange = Broken()
            assert tracing.on_request(exchange) is None
            assert tracing.on_finished(exchange) is None
    assert [record.getMessage() for record in caplog.records] == ["cannot trace a request of test/app; logged once"]
    assert sink.records == []


def test_a_sink_that_fails_does_not_affect_the_request(tracing, sink, caplog):
    sink.submit = None
    exchange = FakeExchange(headers=SAMPLED)
    tracing.on_request(exchange)
    assert tracing.on_attempt(exchange) is None
    assert tracing.on_finished(exchange) is None
    assert "cannot trace" in caplog.text


@pytest.mark.parametrize(("own", "ratio"), [(None, 0.25), (0.5, 0.5), (0.0, 0.0)])
def test_a_service_has_its_own_share_or_that_of_the_proxy(sink, own, ratio):
    made = TracingFactory(sink, 0.25).build_middleware(ServiceTracing(sample=own), "test/app")
    assert f"<RatioSampler {ratio:g}>" in repr(made)
    assert sink.starts == 1


class Head:
    """The head of a request."""

    method = target = host = b""
    client_headers: Any = None

    def __init__(self, head=b""):
        self.head = head

    def matches(self, search):
        return search(self.head) is not None

    @property
    def has_trace_context(self):
        return self.matches(search_trace_context)


def test_a_request_without_a_context_is_skipped_unless_it_is_chosen(sink, tracing):
    assert tracing.skips_request(Head())
    assert not Tracing("test/app", 1.0, sink).skips_request(Head())


@pytest.mark.parametrize("name", [b"traceparent", b"b3", b"X-B3-TraceId"])
def test_a_request_with_a_context_is_not_skipped(tracing, name):
    assert not tracing.skips_request(Head(b"GET / HTTP/1.1\r\n" + name + b": 1\r\n\r\n"))


def test_no_request_is_skipped_if_those_that_were_not_chosen_are_marked(sink):
    assert not Tracing("test/app", 0.0, sink, marks_unsampled=True).skips_request(Head())


def test_a_chosen_request_is_traced_and_the_choice_is_kept_for_the_next_one_if_it_was_refused(sink):
    tracing = Tracing("test/app", 0.5, sink)
    chosen = 0
    for _ in range(50):
        while not tracing.skips_request(Head()):
            chosen += 1
            if chosen % 2:  # it was answered before its middlewares were called
                continue
            exchange = FakeExchange()
            tracing.on_request(exchange)
            tracing.on_finished(exchange)
    assert 0 < len(sink.records) == chosen // 2


def test_a_record_has_the_pod_that_had_the_address_when_the_request_began(sink):
    node = FakeNode()
    node.set_pod_names({"10.1.1.1": "shop/web-0"})
    factory = TracingFactory(sink, 0.0, pods=node.follow_pod_names())
    tracing = factory.build_middleware(ServiceTracing(), "test/app")
    exchange = FakeExchange(headers=SAMPLED, client_address="10.1.1.1")
    tracing.on_request(exchange)
    node.clock.now = time() + 60
    node.set_pod_names({"10.1.1.1": "shop/web-1"})
    tracing.on_finished(exchange)
    assert [record.client_pod for record in sink.records] == ["shop/web-0"]


def test_without_names_no_pod_is_recorded(tracing, sink):
    exchange = FakeExchange(headers=SAMPLED)
    tracing.on_request(exchange)
    tracing.on_finished(exchange)
    assert [record.client_pod for record in sink.records] == [""]
