"""Servers outside of the mesh: ExternalName Services, and EndpointSlices with DNS names.

All processes import this module before they load a half, so it only declares the plugin and its settings.
"""

from typing import Literal

import msgspec

from maesh_core.plugin import Duration, Plugin, PositiveDuration
from maesh_egress.allowed_names import check_pattern
from maesh_egress.networks import parse_network
from maesh_egress.resolver_address import parse_resolver

__all__ = ["PLUGIN", "EgressSettings"]


class EgressSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings `--set egress.KEY=VALUE`. Each says which process uses it."""

    allow: tuple[str, ...] = ()
    """Both: the names that may be carried, as `api.example.com`, `*.example.com` or `*`. Without any, none may."""

    networks: tuple[str, ...] = ()
    """Proxy: networks whose addresses are used besides public addresses, such as `10.20.0.0/16`."""

    resolvers: tuple[str, ...] = ()
    """Proxy: DNS servers, as `ADDRESS` or `ADDRESS:PORT`. By default, those of `/etc/resolv.conf`."""

    families: Literal["both", "ipv4", "ipv6"] = "both"
    """Proxy: the families of addresses that are looked up."""

    timeout: PositiveDuration = 5.0
    """Proxy: the longest time of a lookup, over all DNS servers."""

    shortest_ttl: PositiveDuration = 5.0
    """Proxy: an answer with a shorter TTL is used this long, so that no name is looked up in every second."""

    longest_ttl: PositiveDuration = 3600.0
    """Proxy: an answer with a longer TTL is used this long."""

    stale: Duration = 86400.0
    """Proxy: how long the last addresses are used after their TTL while DNS does not answer."""

    def __post_init__(self) -> None:
        """Refuse what cannot be used; raises ValueError."""
        for pattern in self.allow:
            check_pattern(pattern)
        for network in self.networks:
            parse_network(network)
        for resolver in self.resolvers:
            parse_resolver(resolver)
        if self.shortest_ttl > self.longest_ttl:
            raise ValueError("shortest-ttl is longer than longest-ttl")


PLUGIN = Plugin(
    hook_api_version=1,
    settings=EgressSettings,
    controller="maesh_egress.controller:ControllerHalf",
)
