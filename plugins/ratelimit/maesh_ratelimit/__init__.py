"""Rate limits for Maesh: a service's annotations say how many requests a client may send.

This module is all that a process imports before it knows which half it needs; it only declares the plugin.
"""

from maesh_core.plugin import Plugin

__all__ = ["PLUGIN"]

PLUGIN = Plugin(
    hook_api_version=1,
    controller="maesh_ratelimit.controller:ControllerHalf",
    proxy="maesh_ratelimit.hooks:ProxyHalf",
)
