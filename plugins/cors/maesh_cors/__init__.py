"""CORS for Maesh: annotations and filters of routes say which pages of other origins may use a service.

Both processes import this module before they load a half, so it only declares the plugin.
"""

from maesh_core.plugin import Plugin

__all__ = ["PLUGIN"]

PLUGIN = Plugin(
    hook_api_version=1,
    controller="maesh_cors.controller:ControllerHalf",
    proxy="maesh_cors.hooks:ProxyHalf",
)
