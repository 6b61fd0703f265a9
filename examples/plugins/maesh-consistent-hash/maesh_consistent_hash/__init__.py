"""An example of a load balancer: a client comes to the same server each time. Declares the plugin."""

import msgspec

from maesh_core.plugin import Plugin

__all__ = ["PLUGIN", "HashSettings"]


class HashSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What one service says, as it travels from controller to proxy."""

    header: str | None = None


PLUGIN = Plugin(
    hook_api_version=1,
    controller="maesh_consistent_hash.controller:ControllerHalf",
    proxy="maesh_consistent_hash.proxy:ProxyHalf",
)
