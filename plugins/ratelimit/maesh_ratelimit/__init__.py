"""Rate limits for Maesh: a service's annotations limit how many requests a client may send.

Both processes import this module before they load a half, so it only declares the plugin.
"""

import msgspec

from maesh_core.plugin import Plugin

__all__ = ["PLUGIN", "RateLimitSettings"]


class RateLimitSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings `--set ratelimit.KEY=VALUE`."""

    accounts: bool = False
    """Whether controllers send the service accounts of all pods to proxies, which the source `account` needs."""

    headers: bool = False
    """Whether responses of limited services have the headers RateLimit and RateLimit-Policy, without an annotation."""

    store: str = "node"
    """The store of limits without the annotation `ratelimit-store`."""


PLUGIN = Plugin(
    hook_api_version=1,
    settings=RateLimitSettings,
    controller="maesh_ratelimit.controller:ControllerHalf",
    proxy="maesh_ratelimit.hooks:ProxyHalf",
)
