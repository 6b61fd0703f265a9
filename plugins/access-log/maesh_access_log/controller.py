"""The controller's half: the annotation `access-log` to whether the records of one service are logged.

It also asks for the names of pods, if the format shows them.
"""

from collections.abc import Mapping, Sequence

import msgspec

from maesh_access_log import AccessLogSettings, ServiceAccessLog
from maesh_core.plugin import (
    POD_NAMES,
    MiddlewareBuilder,
    OptionalSection,
    ServiceNode,
    Stage,
    hookimpl,
    read_annotation,
)

ANNOTATION = "access-log"


class AccessLogBuilder:
    """Builds whether a service is logged. Nothing is called for its requests: the proxy's observer reads it."""

    kind = "access-log"
    stage = Stage.OBSERVE
    annotations: tuple[str, ...] = (ANNOTATION,)

    def build_settings(self, annotations: Mapping[str, str], service: ServiceNode) -> ServiceAccessLog | None:
        """Read the annotation; None without it, which leaves the decision to the proxy's setting `services`."""
        is_logged = read_annotation(annotations, ANNOTATION, bool)
        return None if is_logged is None else ServiceAccessLog(is_logged=is_logged)

    def describe(self, settings: Mapping[str, object]) -> Sequence[str]:
        """Say whether the service is logged."""
        is_logged = msgspec.convert(settings, ServiceAccessLog).is_logged
        return ["logged" if is_logged else "not logged"]


class ControllerHalf:
    """What the controller loads."""

    def __init__(self, settings: AccessLogSettings) -> None:
        """Take the settings, of which only the format matters here."""
        self._settings = settings

    @hookimpl
    def maesh_middleware_builders(self) -> Sequence[MiddlewareBuilder]:
        """Return the only builder of this plugin."""
        return [AccessLogBuilder()]

    @hookimpl
    def maesh_optional_sections(self) -> Sequence[OptionalSection]:
        """Ask for the names of pods, if the log shows them."""
        return [POD_NAMES] if self._settings.shows_pods else []
