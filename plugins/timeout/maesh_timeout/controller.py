"""The controller's half: builds time-outs from annotations or from the field `timeouts` of a rule, or an error."""

from collections.abc import Mapping, Sequence

import msgspec

from maesh_core.plugin import (
    ConfigurationError,
    Duration,
    FilterRequest,
    MiddlewareBuilder,
    Question,
    ServiceNode,
    Stage,
    Verdict,
    build_annotation_error,
    hookimpl,
    read_annotation,
    read_filter,
    read_filter_duration,
)
from maesh_timeout.settings import ServiceTimeout

REQUEST, ATTEMPT = "request-timeout", "backend-request-timeout"


class Timeouts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The field `timeouts` of a rule, as in the Gateway API."""

    request: str | None = None
    backend_request: str | None = None


class TimeoutBuilder:
    """Builds the time-outs of a service from its annotations, and those of a rule."""

    kind = "timeout"
    stage = Stage.DELIVER
    annotations: tuple[str, ...] = (REQUEST, ATTEMPT)
    filters: tuple[str, ...] = ("timeouts",)
    is_single = True

    def build_settings(self, annotations: Mapping[str, str], service: ServiceNode) -> ServiceTimeout | None:
        """Read the annotations; None for a service that has none of them."""
        if not annotations:
            return None
        built = ServiceTimeout(
            request_s=read_annotation(annotations, REQUEST, Duration),
            attempt_s=read_annotation(annotations, ATTEMPT, Duration),
        )
        if _is_longer(built):
            raise build_annotation_error(ATTEMPT, annotations[ATTEMPT], f"is longer than {REQUEST}")
        return built

    def build_filter(self, requests: Sequence[FilterRequest], service: ServiceNode) -> ServiceTimeout:
        """Read the field of one rule."""
        request = requests[-1]
        found = read_filter(request, Timeouts)
        built = ServiceTimeout(
            request_s=_read(request, "request", found.request),
            attempt_s=_read(request, "backendRequest", found.backend_request),
        )
        if _is_longer(built):
            raise ConfigurationError(f"{request.name}: backendRequest is longer than request")
        return built

    def describe(self, settings: Mapping[str, object]) -> Sequence[str]:
        """Say how long a request may take."""
        built = msgspec.convert(settings, ServiceTimeout)
        limits = (("the request", built.request_s), ("each attempt", built.attempt_s))
        lines = [
            f"{what} may take {f'{seconds:g} s' if seconds else 'any time'}"
            for what, seconds in limits
            if seconds is not None
        ]
        return lines or ["no time-out"]

    def explain(self, settings: Mapping[str, object], question: Question) -> Verdict:
        """Say how long a request may take; none is refused before."""
        return Verdict(is_admitted=True, reasons=tuple(self.describe(settings)))


def _read(request: FilterRequest, field: str, text: str | None) -> float | None:
    return None if text is None else read_filter_duration(request, field, text)


def _is_longer(built: ServiceTimeout) -> bool:
    """Whether an attempt may take longer than the request, which GEP-1742 forbids: it could never be in force."""
    return 0 < (built.request_s or 0) < (built.attempt_s or 0)


class ControllerHalf:
    """What the controller loads."""

    @hookimpl
    def maesh_middleware_builders(self) -> Sequence[MiddlewareBuilder]:
        """Return the only builder of this plugin."""
        return [TimeoutBuilder()]
