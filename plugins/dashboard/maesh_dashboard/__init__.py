"""The dashboard: a web page of the controller, which shows the mesh with the documents of its API.

The controller imports this module before it loads the half, so it only declares the plugin.
"""

from maesh_core.plugin import Plugin

__all__ = ["PLUGIN"]

PLUGIN = Plugin(hook_api_version=1, controller="maesh_dashboard.controller:ControllerHalf")
