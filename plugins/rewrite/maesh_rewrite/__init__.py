"""Rewrites for Maesh: annotations and filters of routes change the host and the path of requests.

Both processes import this module before they load a half, so it only declares the plugin.
"""

from maesh_core.plugin import Plugin

__all__ = ["PLUGIN"]

PLUGIN = Plugin(
    hook_api_version=1,
    controller="maesh_rewrite.controller:ControllerHalf",
    proxy="maesh_rewrite.hooks:ProxyHalf",
)
