"""UDP for Maesh: services of traffic type `udp` get an entrypoint for each port, and their clients sessions.

This module is all that a process imports before it knows which half it needs; it only declares the plugin.
"""

from typing import Annotated

import msgspec

from maesh_core.plugin import Plugin, PositiveDuration

__all__ = ["PLUGIN", "UdpSettings"]


class UdpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What `--set udp.KEY=VALUE` takes."""

    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 15000
    """The first entrypoint."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 1000
    """How many entrypoints there may be."""

    session_timeout: PositiveDuration = 60.0
    """Seconds: a session in which nothing comes from either side for this long ends. nginx waits ten minutes for a
    datagram, Linux's connection tracking two for a stream of them; a DNS client needs five seconds, a game a minute."""

    session_limit: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 65536
    """The most sessions of a worker; never more than three quarters of its descriptors, or of the host's ports."""


PLUGIN = Plugin(
    hook_api_version=1,
    settings=UdpSettings,
    controller="maesh_udp.controller:ControllerHalf",
    proxy="maesh_udp.hooks:ProxyHalf",
)
