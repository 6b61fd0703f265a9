"""Redirects for Maesh: annotations and filters of routes send clients to other addresses.

Both processes import this module before they load a half, so it only declares the plugin.
"""

from maesh_core.plugin import Plugin

__all__ = ["PLUGIN"]

PLUGIN = Plugin(
    hook_api_version=1,
    controller="maesh_redirect.controller:ControllerHalf",
    proxy="maesh_redirect.hooks:ProxyHalf",
)
