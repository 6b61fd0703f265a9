"""The Gateway API for Maesh: routes attached to Services decide about their traffic (GAMMA).

Both processes import this module before they load a half, so it only declares the plugin.
"""

from typing import Literal

import msgspec

from maesh_core.plugin import Plugin

__all__ = ["PLUGIN", "GatewaySettings"]


class GatewaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings `--set gateway.KEY=VALUE`."""

    reference_grants: Literal["mesh", "strict"] = "mesh"
    """Whether a backend in another namespace needs a ReferenceGrant there: `mesh` means never (GEP-1294), `strict`
    always, except for the only parent of a consumer route."""
    client_namespaces: Literal["all", "consumers"] = "all"
    """Of which clients proxies know the namespace: `all` means of those in namespaces that have HTTP Services, so that
    they can call these by name alone, and `consumers` only of those in namespaces with consumer routes."""


PLUGIN = Plugin(
    hook_api_version=1,
    settings=GatewaySettings,
    controller="maesh_gateway.controller:ControllerHalf",
)
