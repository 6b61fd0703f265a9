"""Time-outs for Maesh: how long a request, and each of its attempts, may take until the end of the response.

Both processes import this module before they load a half, so it only declares the plugin.
"""

from maesh_core.plugin import Plugin

__all__ = ["PLUGIN"]

PLUGIN = Plugin(
    hook_api_version=1,
    controller="maesh_timeout.controller:ControllerHalf",
    proxy="maesh_timeout.hooks:ProxyHalf",
)
