"""SMI for Maesh: TrafficSplits divide a service's traffic, and route groups say which of it.

This module is all that a process imports before it knows which half it needs; it only declares the plugin.
"""

from maesh_core.plugin import Plugin

__all__ = ["PLUGIN"]

PLUGIN = Plugin(hook_api_version=1, controller="maesh_smi.controller:ControllerHalf")
