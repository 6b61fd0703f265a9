"""UDP for Maesh: each port of a service of traffic type `udp` gets an entrypoint, and each client a session.

Both processes import this module before they load a half, so it only declares the plugin.
"""

from typing import Annotated

import msgspec

from maesh_core.plugin import Plugin, PositiveDuration

__all__ = ["PLUGIN", "UdpSettings"]


class UdpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings `--set udp.KEY=VALUE`."""

    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 15000
    """The first entrypoint."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 1000
    """Maximum number of entrypoints."""

    session_timeout: PositiveDuration = 60.0
    """Seconds after which an idle session ends (session_lifetime.py). A DNS client needs five seconds, a game a minute.
    For comparison: nginx waits ten minutes for a datagram, and Linux's connection tracking two minutes for a stream."""

    session_limit: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 65536
    """Maximum number of sessions of a worker; at most three quarters of its descriptors, or of the host's ports."""


PLUGIN = Plugin(
    hook_api_version=1,
    settings=UdpSettings,
    controller="maesh_udp.controller:ControllerHalf",
    proxy="maesh_udp.hooks:ProxyHalf",
)
