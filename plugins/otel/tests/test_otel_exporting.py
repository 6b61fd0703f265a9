"""Records in; spans, counts and log lines out, whatever the exporter does."""

import logging
import subprocess
import sys
import threading

import pytest
from maesh_otel import OtelSettings
from maesh_otel.context import W3C_FORMAT, TraceContext
from maesh_otel.environment import find_export_settings
from maesh_otel.exporting import SpanSink, build_resource
from maesh_otel.hooks import LazySink, check_sdk
from maesh_otel.trace import AttemptRecord, RequestRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from maesh_testing import wait_until


def build_record(attempts=1):
    record = RequestRecord(TraceContext(b"1" * 32, b"", 1, W3C_FORMAT), b"2" * 16, 1)
    record.method, record.target, record.authority, record.ended_ns = b"GET", b"/", b"app", 2
    for number in range(attempts):
        attempt = AttemptRecord(b"%016x" % (number + 1), 1)
        attempt.server, attempt.ended_ns = ("10.0.0.1", 80), 2
        record.attempts.append(attempt)
    return record


class Exporter(SpanExporter):
    """Does what a test says; `gate` is open unless the test closes it."""

    def __init__(self):
        self.spans, self.results, self.gate, self.is_shut_down = [], [], threading.Event(), False
        self.gate.set()

    def export(self, spans):
        self.gate.wait()
        result = self.results.pop(0) if self.results else SpanExportResult.SUCCESS
        if isinstance(result, Exception):
            raise result
        if result is SpanExportResult.SUCCESS:
            self.spans += spans
        else:
            self.log(logging.getLogger("opentelemetry.exporter"))
        return result

    def log(self, logger):
        logger.error("connection refused")

    def shutdown(self):
        self.is_shut_down = True
        self.gate.set()


@pytest.fixture
def exporter(monkeypatch):
    made = Exporter()
    monkeypatch.setattr("maesh_otel.exporting.build_exporter", lambda settings: (made, False))
    logger = logging.getLogger("opentelemetry")
    before = (logger.handlers[:], logger.propagate)
    yield made
    made.gate.set()
    logger.handlers[:], logger.propagate = before


@pytest.fixture
def start_sink(exporter):
    started = []

    def start(**settings):
        found = find_export_settings(OtelSettings(**{"delay": 0.01, **settings}), {})
        started.append(SpanSink(found, Resource({}), "2"))
        return started[-1]

    yield start
    for sink in started:
        exporter.gate.set()
        sink.close()


def count(sink):
    """Give the exported and the dropped spans."""
    return tuple(family.samples[0][1] for family in sink.collect_metrics())


def test_records_are_sent_as_spans_and_counted(start_sink, exporter):
    sink = start_sink()
    sink.submit(build_record())
    sink.submit(build_record(attempts=2))
    wait_until(lambda: count(sink) == (5, 0), "the spans")
    assert len(exporter.spans) == 5
    assert [family.name for family in sink.collect_metrics()] == [
        "maesh_otel_exported_spans",
        "maesh_otel_dropped_spans",
    ]


def test_what_does_not_fit_into_the_queue_is_dropped_and_counted(start_sink, exporter):
    sink = start_sink(queue=10, delay=3600.0)
    for _ in range(25):
        sink.submit(build_record())
    assert count(sink) == (0, 30)
    sink.close()
    assert count(sink) == (20, 30)


def test_a_collector_that_hangs_delays_no_request_and_further_spans_are_dropped(start_sink, exporter):
    exporter.gate.clear()
    sink = start_sink(queue=10)
    sink.submit(build_record())
    wait_until(lambda: sink._exporter.taken == 1, "the export")
    for _ in range(25):
        sink.submit(build_record())
    assert count(sink) == (0, 30)


def test_one_line_says_that_sending_fails_and_one_that_it_works_again(start_sink, exporter, caplog):
    exporter.results = [
        SpanExportResult.FAILURE,
        SpanExportResult.FAILURE,
        OSError("no route"),
        SpanExportResult.SUCCESS,
    ]
    sink = start_sink()
    with caplog.at_level(logging.INFO):
        for number in range(1, 5):
            sink.submit(build_record())
            wait_until(lambda: sum(count(sink)) == 2 * number, "the export")  # noqa: B023 - it ends in this turn
        wait_until(lambda: len(caplog.records) == 2, "the lines")
    assert count(sink) == (2, 6)
    endpoint = "http://127.0.0.1:4318/v1/traces"
    assert [record.getMessage() for record in caplog.records] == [
        f"spans cannot be sent to {endpoint} and are dropped: connection refused",
        f"spans can be sent to {endpoint} again",
    ]


def test_the_line_names_the_cause_if_the_sdk_ends_with_too_many_attempts(start_sink, exporter, caplog):
    def log(logger):
        logger.warning("Transient error %s encountered, retrying in %s", OSError("Connection refused"), 1.0)
        logger.error("Failed to export due to timeout.")

    exporter.log = log
    exporter.results = [SpanExportResult.FAILURE]
    sink = start_sink()
    sink.submit(build_record())
    wait_until(lambda: caplog.records, "the line")
    assert caplog.messages[0].endswith("are dropped: Failed to export due to timeout: Connection refused")


def test_a_record_that_cannot_become_spans_does_not_affect_others(start_sink, exporter, caplog):
    sink = start_sink()
    broken = build_record()
    broken.context.trace_id = b"none"
    sink.submit(broken)
    sink.submit(build_record())
    wait_until(lambda: count(sink) == (2, 2), "the spans")
    assert "cannot make spans of" in caplog.text


def test_the_end_sends_what_waits(start_sink, exporter):
    sink = start_sink(delay=3600.0)
    sink.submit(build_record())
    sink.close()
    assert len(exporter.spans) == 2
    assert exporter.is_shut_down


def test_the_end_does_not_wait_for_a_collector_that_hangs(start_sink, exporter, monkeypatch):
    monkeypatch.setattr("maesh_otel.exporting.FLUSH_LIMIT_S", 0.01)
    exporter.gate.clear()
    sink = start_sink()
    sink.submit(build_record())
    sink.close()
    assert exporter.spans == []


def test_the_resource_names_service_node_and_version():
    settings = find_export_settings(OtelSettings(), {})
    found = build_resource(settings, node="node-1", version="2", variables={"KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    assert found.attributes["service.name"] == "maesh"
    assert found.attributes["service.version"] == found.attributes["maesh.version"] == "2"
    assert found.attributes["k8s.node.name"] == found.attributes["maesh.node"] == "node-1"
    assert found.attributes["host.name"]


def test_the_setting_of_the_name_wins(monkeypatch):
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=theirs,team=a")
    found = build_resource(find_export_settings(OtelSettings(), {}), node="", version="2", variables={})
    assert (found.attributes["service.name"], found.attributes["team"]) == ("theirs", "a")
    settings = find_export_settings(OtelSettings(service_name="edge"), {})
    assert build_resource(settings, node="", version="2", variables={}).attributes["service.name"] == "edge"


def test_before_the_first_traced_service_nothing_is_started_or_counted():
    sink = LazySink(find_export_settings(OtelSettings(), {}), "node-1")
    sink.submit(build_record())
    assert sink.collect_metrics() == []


@pytest.mark.parametrize(("protocol", "extra"), [("http/protobuf", "http"), ("grpc", "grpc")])
def test_a_missing_library_is_named_at_start(monkeypatch, protocol, extra):
    monkeypatch.setattr("maesh_otel.hooks.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=rf"pip install 'maesh-otel\[{extra}\]'"):
        check_sdk(protocol)


LOADING = """
import sys, threading
from maesh_core.plugin_system.loading import load_plugins
from maesh_core.settings import InstalledPlugin, ProxySettings
from maesh_testing import FakeNode
plugin = InstalledPlugin(name="otel", distribution="maesh-otel", version="1", summary="", is_default=False,
                         path="maesh_otel:PLUGIN")
loaded = load_plugins(sys.argv[1], [plugin], {})
if sys.argv[1] == "proxy":
    (factory,) = loaded.collect("maesh_middleware_factories", node=FakeNode())
    if sys.argv[2] == "traced":
        factory.build_middleware(factory.settings_type(), "test/app")
print(*sys.modules, *(thread.name for thread in threading.enumerate()))
"""


@pytest.mark.parametrize(
    ("half", "state", "is_loaded"),
    [("controller", "", False), ("proxy", "untraced", True), ("proxy", "traced", True)],
)
def test_only_a_proxy_loads_the_sdk_at_its_start_and_only_the_library_of_its_protocol(half, state, is_loaded):
    command = [sys.executable, "-c", LOADING, half, state]
    loaded = set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert ("opentelemetry.sdk.trace" in loaded) is is_loaded
    assert ("opentelemetry.exporter.otlp.proto.http.trace_exporter" in loaded) is is_loaded
    assert "grpc" not in loaded
    assert ("maesh-otel-closer" in loaded) is (state == "traced")
