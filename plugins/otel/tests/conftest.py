"""Collectors of spans, and meshes that send to them."""

import pytest

from .otlp_receiver import start_grpc_receiver, start_http_receiver


@pytest.fixture
def start_receiver():
    """Start a collector for OTLP over HTTP or gRPC."""
    started = []

    def start(protocol="http/protobuf", **options):
        if protocol == "grpc":
            pytest.importorskip("grpc")
            pytest.importorskip("opentelemetry.exporter.otlp.proto.grpc")
        started.append(start_grpc_receiver() if protocol == "grpc" else start_http_receiver(**options))
        return started[-1]

    yield start
    for receiver in started:
        receiver.close()


@pytest.fixture
def receiver(start_receiver):
    return start_receiver()


@pytest.fixture
def start_traced(start_mesh, receiver):
    """Start a mesh of one worker that samples every request, and sends spans at once."""

    def start(*flags, **options):
        quick = ("--set", f"otel.endpoint={receiver.endpoint}", "--set", "otel.delay=50ms")
        sample = () if any("otel.sample" in str(flag) for flag in flags) else ("--set", "otel.sample=1")
        return start_mesh("--otel", "--workers", "1", *quick, *sample, *flags, **options)

    return start
