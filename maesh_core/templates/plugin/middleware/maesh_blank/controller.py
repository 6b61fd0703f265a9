"""The controller's half: annotations in, the settings of one service's middleware or an error out."""

from collections.abc import Mapping, Sequence

from maesh_blank import BlankSettings, ServiceBlank
from maesh_core.plugin import (
    MiddlewareBuilder,
    ServiceNode,
    Stage,
    build_annotation_error,
    find_header_problem,
    hookimpl,
)

ANNOTATION = "blank"


class BlankBuilder:
    """Builds the settings of a service that has the annotation."""

    kind = "blank"
    stage = Stage.PROTECT
    annotations: tuple[str, ...] = (ANNOTATION,)

    def __init__(self, settings: BlankSettings) -> None:
        self._settings = settings

    def build_settings(self, annotations: Mapping[str, str], service: ServiceNode) -> ServiceBlank | None:
        """Check the annotation: an error here is shown on the service, and closes it alone."""
        text = annotations.get(ANNOTATION)
        if text is None:
            return None
        if problem := find_header_problem(self._settings.header, text):
            raise build_annotation_error(ANNOTATION, text, problem)
        return ServiceBlank(header=self._settings.header, value=text)


class ControllerHalf:
    """What the controller loads."""

    def __init__(self, settings: BlankSettings) -> None:
        self._settings = settings

    @hookimpl
    def maesh_middleware_builders(self) -> Sequence[MiddlewareBuilder]:
        """Return the middlewares of this plugin."""
        return [BlankBuilder(self._settings)]
