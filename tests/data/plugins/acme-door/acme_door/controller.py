"""The controller's half."""

from acme_door import ServiceDoor
from maesh_core.plugin import Stage, build_annotation_error, hookimpl


class DoorBuilder:
    kind = "door"
    stage = Stage.ADMISSION
    annotations = ("door",)

    def __init__(self, settings):
        self._key = settings.key

    def build_settings(self, annotations, service):
        text = annotations.get("door")
        if text is None:
            return None
        if text != "locked":
            raise build_annotation_error("door", text, "is not locked")
        return ServiceDoor(self._key)


class ControllerHalf:
    def __init__(self, settings):
        self._settings = settings

    @hookimpl
    def maesh_middleware_builders(self):
        return [DoorBuilder(self._settings)]
