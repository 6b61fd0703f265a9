"""An example of a third-party plugin: an annotation on a service stamps a header on its requests and responses.

This module is all that a process imports before it knows which half it needs; it only declares the plugin.
"""

import msgspec

from maesh_core.plugin import Plugin

__all__ = ["PLUGIN", "StampSettings"]


class StampSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `--set stamp.KEY=VALUE` takes."""

    prefix: str = ""
    """Put in front of every header name that an annotation gives."""


PLUGIN = Plugin(
    hook_api_version=1,
    settings=StampSettings,
    controller="maesh_stamp.controller:ControllerHalf",
    proxy="maesh_stamp.proxy:ProxyHalf",
)
