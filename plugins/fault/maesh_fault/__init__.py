"""Faults for Maesh: annotations delay or fail a share of the requests of a service, to test its clients.

Both processes import this module before they load a half, so it only declares the plugin.
"""

from maesh_core.plugin import Plugin

__all__ = ["PLUGIN"]

PLUGIN = Plugin(
    hook_api_version=1,
    controller="maesh_fault.controller:ControllerHalf",
    proxy="maesh_fault.hooks:ProxyHalf",
)
