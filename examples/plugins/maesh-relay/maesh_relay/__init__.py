"""An example of a transport: proxies pass connections on to each other, and prove a shared secret. Declares the plugin.

Both halves share `RelayNode`, which describes a node in the configuration.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from maesh_core.plugin import Plugin

__all__ = ["PLUGIN", "RelayNode", "RelaySettings"]


class RelaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings `--set relay.KEY=VALUE`."""

    secret_file: str = ""
    """Proxy: the file with the secret of all nodes, at least 32 bytes. The plugin does not start without it."""

    mode: Literal["off", "permissive", "strict"] = "permissive"
    """Controller: the mode of services without the annotation `relay`."""

    port: Annotated[int, Meta(ge=1, le=65535)] = 15010
    """Both: the port on which proxies accept connections of other nodes; it must be the same on all nodes."""


class RelayNode(msgspec.Struct, frozen=True):
    """A node that takes part, as it travels from controller to proxy: where its proxy accepts connections."""

    addresses: tuple[str, ...]
    port: int


PLUGIN = Plugin(
    hook_api_version=1,
    settings=RelaySettings,
    controller="maesh_relay.controller:ControllerHalf",
    proxy="maesh_relay.proxy:ProxyHalf",
)
