"""Traffic mirroring for Maesh: annotations and filters of routes send copies of requests to other services.

Both processes import this module before they load a half, so it only declares the plugin.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from maesh_core.plugin import Plugin

__all__ = ["BODY_LIMIT", "PLUGIN", "MirrorSettings"]

BODY_LIMIT = 1 << 20
"""The largest limit of bodies, in bytes."""


class MirrorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings `--set mirror.KEY=VALUE`, for all services."""

    body_limit: Annotated[int, Meta(ge=0, le=BODY_LIMIT)] = 65536
    """Largest request body, in bytes, that is copied. A request with a larger body is not copied."""


PLUGIN = Plugin(
    hook_api_version=1,
    settings=MirrorSettings,
    controller="maesh_mirror.controller:ControllerHalf",
    proxy="maesh_mirror.hooks:ProxyHalf",
)
