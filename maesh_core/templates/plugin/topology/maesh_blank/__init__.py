"""Declares the plugin. Both processes import this module, so it imports neither half."""

from maesh_core.plugin import Plugin

PLUGIN = Plugin(hook_api_version=1, controller="maesh_blank.controller:ControllerHalf")
