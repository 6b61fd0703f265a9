"""SMI for Maesh: TrafficSplits divide a service's traffic, and route groups select the requests.

Both processes import this module before they load a half, so it only declares the plugin.
"""

from maesh_core.plugin import Plugin

__all__ = ["PLUGIN"]

PLUGIN = Plugin(hook_api_version=1, controller="maesh_smi.controller:ControllerHalf")
