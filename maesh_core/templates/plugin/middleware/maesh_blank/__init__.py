"""Declares the plugin. Both processes import this module, so it imports neither half."""

import msgspec

from maesh_core.plugin import Plugin


class BlankSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What `--set blank.KEY=VALUE` takes. Every field has a default."""

    header: str = "X-Blank"
    """The header's name."""


PLUGIN = Plugin(
    hook_api_version=1,
    settings=BlankSettings,
    controller="maesh_blank.controller:ControllerHalf",
    proxy="maesh_blank.proxy:ProxyHalf",
)
