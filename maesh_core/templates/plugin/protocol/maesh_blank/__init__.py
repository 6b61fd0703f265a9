"""Declares the plugin. Both processes import this module, so it imports neither half."""

from typing import Annotated

import msgspec

from maesh_core.plugin import Plugin


class BlankSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What `--set blank.KEY=VALUE` takes. Every field has a default."""

    first_port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 17000
    """The first port on a node."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=10000)] = 25
    """How many ports there are."""


PLUGIN = Plugin(
    hook_api_version=1,
    settings=BlankSettings,
    controller="maesh_blank.controller:ControllerHalf",
    proxy="maesh_blank.proxy:ProxyHalf",
)
