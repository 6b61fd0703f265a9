"""Concurrency limits for Maesh: annotations limit how many requests of a service run at once on each node.

Both processes import this module before they load a half, so it only declares the plugin.
"""

import msgspec

from maesh_core.plugin import Plugin

__all__ = ["PLUGIN", "ConcurrencySettings"]


class ConcurrencySettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings `--set concurrency.KEY=VALUE`."""

    accounts: bool = False
    """Whether controllers send the service accounts of all pods to proxies, which the source `account` needs."""


PLUGIN = Plugin(
    hook_api_version=1,
    settings=ConcurrencySettings,
    controller="maesh_concurrency.controller:ControllerHalf",
    proxy="maesh_concurrency.hooks:ProxyHalf",
)
