"""The settings in force: those of the plugin, then the standard variables of OpenTelemetry, then the defaults.

The SDK itself reads further variables: `OTEL_RESOURCE_ATTRIBUTES`, and those of certificates, compression and time-outs
of the exporter.
"""

from collections.abc import Mapping

import msgspec

from maesh_otel import OtelSettings, find_endpoint_problem

HTTP, GRPC = "http/protobuf", "grpc"
DEFAULT_SAMPLE = 0.01
DEFAULT_SERVICE_NAME = "maesh"
_DEFAULT_ENDPOINTS = {HTTP: "http://127.0.0.1:4318", GRPC: "http://127.0.0.1:4317"}
_TRACES_PATH = "/v1/traces"


class ExportSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How spans are sampled and sent. Without `headers`, the SDK reads them from its variables."""

    endpoint: str
    protocol: str
    sample: float
    service_name: str
    headers: Mapping[str, str] | None
    queue: int
    delay_s: float


def find_export_settings(settings: OtelSettings, variables: Mapping[str, str]) -> ExportSettings:
    """Combine settings, variables and defaults. Raises ValueError, which names a variable with an invalid value."""
    protocol = settings.protocol or _find_protocol(variables)
    return ExportSettings(
        endpoint=_find_endpoint(settings.endpoint, protocol, variables),
        protocol=protocol,
        sample=_find_sample(variables) if settings.sample is None else settings.sample,
        service_name=settings.service_name or variables.get("OTEL_SERVICE_NAME", ""),
        headers=dict(_split(text) for text in settings.headers) or None,
        queue=settings.queue,
        delay_s=settings.delay,
    )


def _split(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name.strip().lower(), value.strip()


def _find_protocol(variables: Mapping[str, str]) -> str:
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if text := variables.get(name, "").strip():
            if text not in _DEFAULT_ENDPOINTS:
                raise ValueError(f"{name}: {text!r} is not one of {HTTP}, {GRPC}")
            return text
    return HTTP


def _find_endpoint(setting: str, protocol: str, variables: Mapping[str, str]) -> str:
    """Return the URL; for HTTP with the path of traces, which the variable for traces alone is expected to have."""
    name = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
    if not setting and (text := variables.get(name, "").strip()):
        return _check_endpoint(name, text)
    name = "OTEL_EXPORTER_OTLP_ENDPOINT"
    text = setting or _check_endpoint(name, variables.get(name, "").strip() or _DEFAULT_ENDPOINTS[protocol])
    if protocol == GRPC or text.endswith(_TRACES_PATH):
        return text
    return text.rstrip("/") + _TRACES_PATH


def _check_endpoint(name: str, text: str) -> str:
    if problem := find_endpoint_problem(text):
        raise ValueError(f"{name}: {text!r} {problem}")
    return text


def _find_sample(variables: Mapping[str, str]) -> float:
    """Return the ratio of the sampler that a variable names; with or without `parentbased_`, the parent decides."""
    name = variables.get("OTEL_TRACES_SAMPLER", "").strip().removeprefix("parentbased_")
    if name in ("always_on", "always_off"):
        return float(name == "always_on")
    if name != "traceidratio":
        return DEFAULT_SAMPLE
    text = variables.get("OTEL_TRACES_SAMPLER_ARG", "").strip() or "1"
    try:
        ratio = float(text)
    except ValueError:
        ratio = -1.0
    if not 0 <= ratio <= 1:
        raise ValueError(f"OTEL_TRACES_SAMPLER_ARG: {text!r} is not a number from 0 to 1")
    return ratio
