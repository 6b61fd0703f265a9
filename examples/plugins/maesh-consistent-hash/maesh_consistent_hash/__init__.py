"""An example of a load balancer: a client comes to the same server each time. Declares the plugin."""

from maesh_core.plugin import Plugin

__all__ = ["PLUGIN"]

PLUGIN = Plugin(
    hook_api_version=1,
    controller="maesh_consistent_hash.controller:ControllerHalf",
    proxy="maesh_consistent_hash.proxy:ProxyHalf",
)
