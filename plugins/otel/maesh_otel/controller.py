"""The controller's half: traces every HTTP service, unless its annotations say otherwise."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from maesh_core.plugin import (
    POD_NAMES,
    MiddlewareBuilder,
    OptionalSection,
    Question,
    ServiceNode,
    Stage,
    Verdict,
    build_annotation_error,
    hookimpl,
    read_annotation,
)
from maesh_otel import OtelSettings
from maesh_otel.settings import ServiceTracing

TRACING, SAMPLE = "tracing", "trace-sample"
_Share = Annotated[float, Meta(ge=0, le=1)]


class TracingBuilder:
    """Builds a service's tracing."""

    kind = "otel"
    stage = Stage.TRACE
    annotations: tuple[str, ...] = (TRACING, SAMPLE)

    def build_settings(self, annotations: Mapping[str, str], service: ServiceNode) -> ServiceTracing | None:
        """Read the annotations; None for a service that is not traced."""
        is_on = read_annotation(annotations, TRACING, bool)
        sample = read_annotation(annotations, SAMPLE, _Share)
        if is_on is False:
            if sample is not None:
                raise build_annotation_error(SAMPLE, annotations[SAMPLE], f"has no effect with {TRACING}: false")
            return None
        return ServiceTracing(sample=sample)

    def describe(self, settings: Mapping[str, object]) -> Sequence[str]:
        """Say which share of the requests starts a trace."""
        sample = msgspec.convert(settings, ServiceTracing).sample
        return ["traced, share of the proxy's setting" if sample is None else f"traced, share {sample:g} of requests"]

    def explain(self, settings: Mapping[str, object], question: Question) -> Verdict:
        """Say which share of the requests is traced; none is refused."""
        sample = msgspec.convert(settings, ServiceTracing).sample
        share = "the proxy's setting" if sample is None else f"{sample:g}"
        return Verdict(is_admitted=True, reasons=(f"traced, share {share} of requests; it refuses no request",))


class ControllerHalf:
    """What the controller loads; all settings but `client_pods` are for the proxy."""

    def __init__(self, settings: OtelSettings) -> None:
        self._names_pods = settings.client_pods

    @hookimpl
    def maesh_middleware_builders(self) -> Sequence[MiddlewareBuilder]:
        """Return the only builder of this plugin."""
        return [TracingBuilder()]

    @hookimpl
    def maesh_optional_sections(self) -> Sequence[OptionalSection]:
        """Ask for the names of pods, if spans show them."""
        return [POD_NAMES] if self._names_pods else []
