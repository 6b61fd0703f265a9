"""An example of a third-party plugin: an annotation on a service stamps a header on its requests and responses.

This module is all that a process imports before it knows which half it needs; it declares the plugin, and what travels
from one half to the other.
"""

import msgspec

from maesh_core.plugin import Plugin

__all__ = ["PLUGIN", "HeaderSettings", "StampSettings"]


class StampSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `--set stamp.KEY=VALUE` takes."""

    prefix: str = ""
    """Put in front of every header name that an annotation gives."""


class HeaderSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The header of one service, as it travels from controller to proxy."""

    name: str
    value: str


PLUGIN = Plugin(
    hook_api_version=1,
    settings=StampSettings,
    controller="maesh_stamp.controller:ControllerHalf",
    proxy="maesh_stamp.proxy:ProxyHalf",
)
