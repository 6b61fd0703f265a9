"""The controller's half: takes the annotation `stamp: "Name: value"`, gives the settings of one stamp middleware.

A bad annotation is found here, where it can be shown on the service, and never reaches a proxy.
"""

import re
from collections.abc import Mapping, Sequence

import msgspec

from maesh_core.plugin import ConfigurationError, MiddlewareBuilder, ServiceNode, Stage, hookimpl
from maesh_stamp import HeaderSettings, StampSettings

ANNOTATION = "stamp"
_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2: token
_FIELD_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")  # RFC 9110, section 5.5, ASCII alone


class StampBuilder:
    """Builds a service's stamp settings from its annotation."""

    kind = "stamp"
    stage = Stage.PROTECT
    annotations: tuple[str, ...] = (ANNOTATION,)

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def build_settings(self, annotations: Mapping[str, str], service: ServiceNode) -> HeaderSettings | None:
        """Split the annotation into a header's name and value; None when the service has no such annotation."""
        text = annotations.get(ANNOTATION)
        if text is None:
            return None
        name, colon, value = text.partition(":")
        name, value = self._prefix + name.strip(), value.strip()
        if not colon or not _FIELD_NAME.fullmatch(name) or not _FIELD_VALUE.fullmatch(value):
            raise ConfigurationError(f'{ANNOTATION}: "{text}" is not a header such as "X-Team: payments"')
        return HeaderSettings(name=name, value=value)

    def describe(self, settings: Mapping[str, object]) -> Sequence[str]:
        """Say which header is stamped, for `maesh explain` and `maesh diff`."""
        found = msgspec.convert(settings, HeaderSettings)
        return [f"stamps {found.name}: {found.value}"]


class ControllerHalf:
    """What the controller loads."""

    def __init__(self, settings: StampSettings) -> None:
        self._settings = settings

    @hookimpl
    def maesh_middleware_builders(self) -> Sequence[MiddlewareBuilder]:
        """Return the one builder of this plugin."""
        return [StampBuilder(self._settings.prefix)]
