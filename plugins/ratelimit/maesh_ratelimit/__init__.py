"""Rate limits for Maesh: a service's annotations limit how many requests a client may send.

Both processes import this module before they load a half, so it only declares the plugin.
"""

from maesh_core.plugin import Plugin

__all__ = ["PLUGIN"]

PLUGIN = Plugin(
    hook_api_version=1,
    controller="maesh_ratelimit.controller:ControllerHalf",
    proxy="maesh_ratelimit.hooks:ProxyHalf",
)
