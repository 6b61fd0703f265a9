"""The controller's half: checks the annotation and builds the settings of a service's breaker, or an error."""

from collections.abc import Mapping, Sequence

import msgspec

from maesh_circuitbreaker import CircuitBreakerSettings
from maesh_circuitbreaker.expression import Parser
from maesh_circuitbreaker.settings import ServiceBreaker
from maesh_core.plugin import MiddlewareBuilder, ServiceNode, Stage, build_annotation_error, hookimpl

ANNOTATION = "circuit-breaker-expression"


class ControllerHalf:
    """What the controller loads, and what builds a service's breaker from its annotation."""

    kind = "circuitbreaker"
    stage = Stage.PROTECT
    annotations: tuple[str, ...] = (ANNOTATION,)

    def __init__(self, settings: CircuitBreakerSettings) -> None:
        self._settings = settings

    @hookimpl
    def maesh_middleware_builders(self) -> Sequence[MiddlewareBuilder]:
        """Return the only builder of this plugin."""
        return [self]

    def describe(self, settings: Mapping[str, object]) -> Sequence[str]:
        """Say when requests stop, and for how long."""
        found = msgspec.convert(settings, ServiceBreaker)
        return [
            f"no requests for {found.fallback_duration:g} s after {found.expression},"
            f" examined at most every {found.check_period:g} s, then {found.recovery_duration:g} s with a growing share"
        ]

    def build_settings(self, annotations: Mapping[str, str], service: ServiceNode) -> ServiceBreaker | None:
        """Check the expression; None for a service that has none."""
        text = annotations.get(ANNOTATION)
        if text is None:
            return None
        try:
            Parser(text).parse()
        except ValueError as error:
            raise build_annotation_error(ANNOTATION, text, f"is invalid in {error}") from error
        return ServiceBreaker(expression=text, **msgspec.structs.asdict(self._settings))
