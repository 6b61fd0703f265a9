"""The controller's half: the annotation `access-log` to whether the records of one service are logged."""

from collections.abc import Mapping, Sequence

from maesh_access_log import AccessLogSettings, ServiceAccessLog
from maesh_core.plugin import MiddlewareBuilder, ServiceNode, Stage, hookimpl, read_annotation

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


class ControllerHalf:
    """What the controller loads."""

    def __init__(self, settings: AccessLogSettings) -> None:
        """Take the settings, which only the proxy uses."""

    @hookimpl
    def maesh_middleware_builders(self) -> Sequence[MiddlewareBuilder]:
        """Return the only builder of this plugin."""
        return [AccessLogBuilder()]
