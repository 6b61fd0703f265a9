"""Sends records as spans to a collector: the SDK's BatchSpanProcessor in a thread, with an exporter of the SDK.

The queue is bounded; what does not fit is dropped, and counted. While the collector cannot be reached, nothing waits
for it but this thread. One line is logged when sending begins to fail, and one when it works again.
"""

import logging
import platform
import socket
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanContext, TraceFlags

from maesh_core.plugin import MetricFamily
from maesh_otel.environment import DEFAULT_SERVICE_NAME, GRPC, ExportSettings
from maesh_otel.spans import SpanBuilder
from maesh_otel.trace import RequestRecord

BATCH_LIMIT = 256
"""Records in one export."""
FLUSH_LIMIT_S = 0.6
"""Time to send the last records when the worker ends; after a second, its parent kills it."""
_SAMPLED = SpanContext(1, 1, False, TraceFlags(TraceFlags.SAMPLED))  # noqa: FBT003

_logger = logging.getLogger(__name__)


class _Queued:
    """A record in the queue of the BatchSpanProcessor, which looks at `context` alone, to drop what is not sampled."""

    __slots__ = ("record",)

    context = _SAMPLED

    def __init__(self, record: RequestRecord) -> None:
        self.record = record


class _LastWords(logging.Handler):
    """Keeps the last line that the SDK logs, instead of showing it."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.text = record.getMessage()


class CountingExporter(SpanExporter):
    """Makes spans of records, sends them by another exporter, and counts them. Runs in the processor's thread."""

    def __init__(self, exporter: SpanExporter, builder: SpanBuilder, endpoint: str, words: _LastWords) -> None:
        self.taken = self.exported = self.dropped = 0
        self._exporter, self._builder = exporter, builder
        self._endpoint, self._words = endpoint, words
        self._is_failing = False

    def __repr__(self) -> str:
        return f"<CountingExporter to {self._endpoint} exported={self.exported} dropped={self.dropped}>"

    def export(self, spans: Sequence[Any]) -> SpanExportResult:
        """Send the spans of the queued records."""
        self.taken += len(spans)
        built = [span for queued in spans for span in self._build(queued.record)]
        self._words.text = ""
        try:
            result = self._exporter.export(built)
        except Exception as error:  # of the SDK or of a library below it
            result, self._words.text = SpanExportResult.FAILURE, f"{type(error).__name__}: {error}"
        if result is SpanExportResult.SUCCESS:
            self.exported += len(built)
        else:
            self.dropped += len(built)
        self._report(is_failing=result is not SpanExportResult.SUCCESS)
        return result

    def _build(self, record: RequestRecord) -> list[ReadableSpan]:
        try:
            return self._builder.build(record)
        except Exception:  # one record must not prevent the export of others
            _logger.exception("cannot make spans of %r", record)
            self.dropped += 1 + len(record.attempts)
            return []

    def _report(self, *, is_failing: bool) -> None:
        if is_failing and not self._is_failing:
            reason = self._words.text or "the collector refused them"
            _logger.error("spans cannot be sent to %s and are dropped: %s", self._endpoint, reason)
        elif self._is_failing and not is_failing:
            _logger.warning("spans can be sent to %s again", self._endpoint)
        self._is_failing = is_failing

    def shutdown(self) -> None:
        """Stop sending."""
        self._exporter.shutdown()


class SpanSink:
    """Queues records in a BatchSpanProcessor."""

    def __init__(self, settings: ExportSettings, resource: Resource, version: str) -> None:
        words = _silence_sdk()
        self._exporter = CountingExporter(
            build_exporter(settings), SpanBuilder(resource, version), settings.endpoint, words
        )
        self._limit = settings.queue
        self._processor = BatchSpanProcessor(
            self._exporter,
            max_queue_size=settings.queue + BATCH_LIMIT,  # never full: submit() has the limit
            schedule_delay_millis=settings.delay_s * 1000,
            max_export_batch_size=BATCH_LIMIT,
        )
        self._submitted = self._dropped = 0
        self._is_ending = threading.Event()
        # It is started in advance, because Python 3.12 starts no threads while it exits.
        self._closer = threading.Thread(target=self._shut_down, name="maesh-otel-closer", daemon=True)
        self._closer.start()

    def __repr__(self) -> str:
        return f"<SpanSink waiting={self._submitted - self._exporter.taken} {self._exporter!r}>"

    def submit(self, record: RequestRecord) -> None:
        """Queue a record; drop it if too many wait."""
        if self._submitted - self._exporter.taken >= self._limit:
            self._dropped += 1 + len(record.attempts)
            return
        self._submitted += 1
        self._processor.on_end(_Queued(record))  # type: ignore[arg-type]

    def close(self) -> None:
        """Send what waits, for a limited time."""
        self._is_ending.set()
        self._closer.join(FLUSH_LIMIT_S)

    def _shut_down(self) -> None:
        self._is_ending.wait()
        self._processor.shutdown()  # type: ignore[no-untyped-call]

    def collect_metrics(self) -> list[MetricFamily]:
        """Return the metrics."""
        dropped = self._dropped + self._exporter.dropped
        return [
            MetricFamily(
                name="maesh_otel_exported_spans",
                type="counter",
                help="Spans that the collector has accepted.",
                samples=[((), self._exporter.exported)],
            ),
            MetricFamily(
                name="maesh_otel_dropped_spans",
                type="counter",
                help="Spans that were dropped, because too many waited or the collector did not accept them.",
                samples=[((), dropped)],
            ),
        ]


def build_exporter(settings: ExportSettings) -> SpanExporter:
    """Build the SDK's exporter. Imports the library of the protocol."""
    headers: Any = settings.headers
    if settings.protocol == GRPC:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter

        return GrpcExporter(endpoint=settings.endpoint, headers=headers)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter

    return HttpExporter(endpoint=settings.endpoint, headers=headers)


def build_resource(settings: ExportSettings, *, node: str, version: str, variables: Mapping[str, str]) -> Resource:
    """Describe this process; attributes in `OTEL_RESOURCE_ATTRIBUTES` win over those that are found."""
    attributes: dict[str, str] = {
        "service.name": DEFAULT_SERVICE_NAME,
        "service.version": version,
        "host.name": socket.gethostname(),
        "os.type": platform.system().lower(),
        "maesh.version": version,
        "maesh.node": node or socket.gethostname(),
    }
    if "KUBERNETES_SERVICE_HOST" in variables and node:
        attributes["k8s.node.name"] = node
    resource = Resource.create(attributes).merge(OTELResourceDetector().detect())
    return resource.merge(Resource({"service.name": settings.service_name})) if settings.service_name else resource


def _silence_sdk() -> _LastWords:
    """Keep the SDK's own lines out of the log, where each failure would be repeated."""
    words, logger = _LastWords(), logging.getLogger("opentelemetry")
    logger.handlers[:] = [words]
    logger.propagate = False
    return words
