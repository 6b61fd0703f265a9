"""Access control for Maesh: nobody reaches a service whom no TrafficTarget allows.

This module is imported by both processes before they know which half they need; it declares the plugin, and the
settings that travel from one half to the other.
"""

import msgspec

from maesh_core.plugin import HttpMatch, Plugin

__all__ = ["PLUGIN", "AccessSettings", "AclSettings", "Grant", "LeafGrants"]


class AccessSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What `--set acl.KEY=VALUE` takes."""

    own_namespace_only: bool = True
    """Whether a TrafficTarget grants access to accounts of its own namespace alone. Otherwise anybody who may write
    TrafficTargets in some namespace could open the services of every other."""


class Grant(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who may send what to which servers: clients at `sources`, requests of `matches` (none: all).

    `servers` are addresses and ports; None: all of the service's. `target` names the rule, for people.
    """

    target: str = ""
    sources: tuple[str, ...]
    matches: tuple[HttpMatch, ...] = ()
    servers: tuple[tuple[str, int], ...] | None = None


class LeafGrants(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The grants of one leaf service, its name for people, and all its servers where some grant is not for all."""

    service: str = ""
    grants: tuple[Grant, ...] = ()
    servers: tuple[tuple[str, int], ...] = ()


class AclSettings(msgspec.Struct, frozen=True, kw_only=True):
    """By destination (a service port, or a branch of one): for each leaf service with weight, its grants.

    A client must be let in by every leaf; a destination that is not named, or has no leaf, lets in nobody.
    """

    destinations: dict[str, tuple[LeafGrants, ...]] = {}


PLUGIN = Plugin(
    hook_api_version=1,
    settings=AccessSettings,
    controller="maesh_acl.controller:ControllerHalf",
    proxy="maesh_acl.hooks:ProxyHalf",
    is_access_control=True,
)
