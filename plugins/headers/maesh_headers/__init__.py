"""Header changes for Maesh: annotations and filters of routes set, add and remove headers of requests and responses.

Both processes import this module before they load a half, so it only declares the plugin.
"""

from maesh_core.plugin import Plugin

__all__ = ["PLUGIN"]

PLUGIN = Plugin(
    hook_api_version=1,
    controller="maesh_headers.controller:ControllerHalf",
    proxy="maesh_headers.hooks:ProxyHalf",
)
