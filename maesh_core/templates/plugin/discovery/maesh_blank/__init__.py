"""Declares the plugin. Both processes import this module, so it imports neither half."""

import msgspec

from maesh_core.plugin import Plugin, PositiveDuration


class BlankSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What `--set blank.KEY=VALUE` takes. Every field has a default."""

    path: str = ""
    """The file with the objects."""

    interval: PositiveDuration = 1.0
    """How often it is looked at, in seconds."""


PLUGIN = Plugin(
    hook_api_version=1,
    settings=BlankSettings,
    controller="maesh_blank.controller:ControllerHalf",
)
