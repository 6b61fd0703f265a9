"""The hooks of the proxy's half. pluggy marks the functions of hooks, and cannot mark those that mypyc compiles.

The SDK is imported by the hook, before the worker carries traffic, because that takes a few tenths of a second. Its
thread is started when the first service is traced.
"""

import atexit
import os
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING

from maesh_core.plugin import MetricFamily, MiddlewareFactory, Node, hookimpl
from maesh_otel import OtelSettings
from maesh_otel.environment import GRPC, ExportSettings, find_export_settings
from maesh_otel.proxy import TracingFactory
from maesh_otel.trace import RequestRecord

if TYPE_CHECKING:
    from maesh_otel.exporting import SpanSink


class LazySink:
    """Implements `proxy.Sink`: creates the SDK's part when the first service is traced."""

    def __init__(self, settings: ExportSettings, node: str) -> None:
        self._settings, self._node = settings, node
        self._sink: SpanSink | None = None

    def __repr__(self) -> str:
        return f"<LazySink {self._sink!r}>"

    def start(self) -> None:
        """Start the SDK's thread, once."""
        if self._sink is None:
            from maesh_otel.exporting import SpanSink, build_resource  # imported before

            installed = version("maesh")
            resource = build_resource(self._settings, node=self._node, version=installed, variables=os.environ)
            sink = self._sink = SpanSink(self._settings, resource, installed)
            atexit.register(sink.close)

    def submit(self, record: RequestRecord) -> None:
        """Pass a record on."""
        if self._sink is not None:
            self._sink.submit(record)

    def collect_metrics(self) -> list[MetricFamily]:
        """Return the metrics; none before the first service is traced."""
        return self._sink.collect_metrics() if self._sink is not None else []


class ProxyHalf:
    """What a proxy loads."""

    def __init__(self, settings: OtelSettings) -> None:
        self._settings = find_export_settings(settings, os.environ)
        self._marks_unsampled = settings.mark_unsampled
        self._names_pods = settings.client_pods
        check_sdk(self._settings.protocol)

    @hookimpl
    def maesh_middleware_factories(self, node: Node) -> Sequence[MiddlewareFactory]:
        """Return the only factory of this plugin."""
        from maesh_otel.exporting import import_exporter

        import_exporter(self._settings.protocol)
        sink = LazySink(self._settings, node.settings.node)
        pods = node.follow_pod_names() if self._names_pods else None
        return [TracingFactory(sink, self._settings.sample, marks_unsampled=self._marks_unsampled, pods=pods)]


def check_sdk(protocol: str) -> None:
    """Raise ImportError, which stops the start, if the library that sends spans is not installed."""
    name, extra = ("grpc", "grpc") if protocol == GRPC else ("http", "http")
    try:
        found = find_spec(f"opentelemetry.exporter.otlp.proto.{name}") is not None
    except ModuleNotFoundError:
        found = False
    if not found:
        raise ImportError(f"sending spans by {protocol} needs more packages: pip install 'maesh-otel[{extra}]'")
