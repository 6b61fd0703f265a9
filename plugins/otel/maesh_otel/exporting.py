"""Sends records as spans to a collector: the SDK's BatchSpanProcessor in a thread, with an exporter of the SDK.

The queue is bounded; what does not fit is dropped, and counted. While the collector cannot be reached, nothing waits
for it but this thread. One line is logged when sending begins to fail, and one when it works again.
"""

import logging
import platform
import socket
import threading
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, TraceFlags

from maesh_core.plugin import MetricFamily
from maesh_otel.attributes import encode_bytes, encode_start
from maesh_otel.encoding import encode_record
from maesh_otel.environment import DEFAULT_SERVICE_NAME, GRPC, ExportSettings
from maesh_otel.readable import build_readable_span
from maesh_otel.spans import build_spans
from maesh_otel.trace import RequestRecord

BATCH_LIMIT = 512
"""Records in one export, which then has half a megabyte."""
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
    """Keeps the last line that the SDK logs, instead of showing it, and the last exception that it logs.

    After several attempts, the SDK's last line only says that there were too many.
    """

    def __init__(self) -> None:
        super().__init__()
        self.text = self.cause = ""

    def clear(self) -> None:
        """Forget both, before an export."""
        self.text = self.cause = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        error = next((each for each in record.args or () if isinstance(each, Exception)), None)
        if error is None:
            self.text = record.getMessage()
        else:
            reason = getattr(error.args[0] if error.args else None, "reason", None)  # urllib3's, below requests' error
            self.cause = str(reason or error)

    def describe(self) -> str:
        """Return why an export failed; empty if nothing was logged."""
        return ": ".join(part for part in (self.text.rstrip("."), self.cause) if part)


class EncodedBatch:
    """Spans as the message that is sent, in place of an ExportTraceServiceRequest: making one would take 3 us a trace.

    The SDK's exporters ask for the number of spans. That of HTTP then serializes what its encoder returns.
    """

    def __init__(self, count: int, content: bytes) -> None:
        self._count = count
        self._content = content

    def __repr__(self) -> str:
        return f"<EncodedBatch of {self._count} spans>"

    def __len__(self) -> int:
        return self._count

    def SerializePartialToString(self) -> bytes:  # noqa: N802
        """Return the message, as the method of a message of protobuf does."""
        return self._content

    def build_request(self) -> ExportTraceServiceRequest:
        """Build the message itself, which gRPC serializes."""
        request: ExportTraceServiceRequest = ExportTraceServiceRequest.FromString(self._content)
        return request


class BatchBuilder:
    """Makes what an exporter takes from records: the SDK's spans, or a batch that is already encoded."""

    def __init__(self, resource: Resource, version: str, *, is_encoding: bool) -> None:
        self._resource = resource
        self._scope = InstrumentationScope("maesh", version)
        self._is_encoding = is_encoding
        empty = ReadableSpan("", _SAMPLED, resource=resource, instrumentation_scope=self._scope)
        (around,) = encode_spans([empty]).resource_spans
        self._head = encode_bytes(b"\x0a", around.resource.SerializeToString())
        self._scope_head = encode_bytes(b"\x0a", around.scope_spans[0].scope.SerializeToString())
        self._tail = encode_bytes(b"\x1a", around.schema_url.encode()) if around.schema_url else b""

    def __repr__(self) -> str:
        return f"<BatchBuilder encoding={self._is_encoding}>"

    def build(self, record: RequestRecord) -> Sequence[Any]:
        """Make the spans of a request."""
        if self._is_encoding:
            return encode_record(record)
        return [build_readable_span(span, self._resource, self._scope) for span in build_spans(record)]

    def join(self, spans: Sequence[Any]) -> Any:
        """Make the argument of the exporter from what `build` returned."""
        if not self._is_encoding:
            return spans
        scoped_bytes = len(self._scope_head) + sum(map(len, spans))
        scoped_start = encode_start(b"\x12", scoped_bytes)
        start = encode_start(b"\x0a", len(self._head) + len(scoped_start) + scoped_bytes + len(self._tail))
        content = b"".join((start, self._head, scoped_start, self._scope_head, *spans, self._tail))
        return EncodedBatch(len(spans), content)


class CountingExporter(SpanExporter):
    """Makes spans of records, sends them by another exporter, and counts them. Runs in the processor's thread."""

    def __init__(self, exporter: SpanExporter, builder: BatchBuilder, endpoint: str, words: _LastWords) -> None:
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
        self._words.clear()
        try:
            result = self._exporter.export(self._builder.join(built))
        except Exception as error:  # of the SDK or of a library below it
            result, self._words.text = SpanExportResult.FAILURE, f"{type(error).__name__}: {error}"
        if result is SpanExportResult.SUCCESS:
            self.exported += len(built)
        else:
            self.dropped += len(built)
        self._report(is_failing=result is not SpanExportResult.SUCCESS)
        return result

    def _build(self, record: RequestRecord) -> Sequence[Any]:
        try:
            return self._builder.build(record)
        except Exception:  # one record must not prevent the export of others
            _logger.exception("cannot make spans of %r", record)
            self.dropped += 1 + len(record.attempts)
            return []

    def _report(self, *, is_failing: bool) -> None:
        if is_failing and not self._is_failing:
            reason = self._words.describe() or "the collector refused them"
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
        exporter, is_encoding = build_exporter(settings)
        builder = BatchBuilder(resource, version, is_encoding=is_encoding)
        self._exporter = CountingExporter(exporter, builder, settings.endpoint, words)
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


def import_exporter(protocol: str) -> Any:
    """Import the SDK's exporter of a protocol; return its module."""
    name = "grpc" if protocol == GRPC else "http"
    return import_module(f"opentelemetry.exporter.otlp.proto.{name}.trace_exporter")


def build_exporter(settings: ExportSettings) -> tuple[SpanExporter, bool]:
    """Build the SDK's exporter of the protocol; also return whether it takes an EncodedBatch."""
    headers: Any = settings.headers
    module = import_exporter(settings.protocol)
    is_encoding = hasattr(module, "encode_spans")
    if is_encoding:
        module.encode_spans = EncodedBatch.build_request if settings.protocol == GRPC else _keep_batch
    return module.OTLPSpanExporter(endpoint=settings.endpoint, headers=headers), is_encoding


def _keep_batch(batch: EncodedBatch) -> EncodedBatch:
    """Replace the SDK's encoder in its exporter for HTTP, of which nothing else in a worker makes use."""
    return batch


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
