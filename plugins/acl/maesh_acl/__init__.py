"""Access control for Maesh: only clients that a TrafficTarget allows reach a service.

Both processes import this module before they load a half. It declares the plugin, and the settings that the
controller's half sends to the proxy's half.
"""

from typing import Literal

import msgspec

from maesh_core.plugin import HttpMatch, Plugin

__all__ = ["PLUGIN", "AccessSettings", "AclSettings", "Grant", "LeafGrants"]


class AccessSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings `--set acl.KEY=VALUE`."""

    own_namespace_only: bool = True
    """Whether a TrafficTarget grants access only to accounts in its own namespace. Otherwise a user who may write
    TrafficTargets in one namespace could open the services of all others."""
    mode: Literal["enforce", "audit"] = "enforce"
    """Whether traffic that no TrafficTarget allows is denied, or passes and is recorded, in the whole mesh."""
    audit_by_annotation: Literal["none", "namespace", "service"] = "namespace"
    """Whose annotation `acl-mode` may select `audit`: nobody's, that of Namespaces, or also that of Services. Only
    administrators write Namespaces, but users who must not open a service may write Services."""


class Grant(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A permission: clients at `sources` may send requests that meet `matches` (empty: all) to `servers`.

    `servers` are addresses and ports; None: all servers of the service. `target` is the name of the rule for messages.
    If it is audited, the sources may also send requests that meet none of its matches, which are then recorded.
    """

    target: str = ""
    sources: tuple[str, ...]
    matches: tuple[HttpMatch, ...] = ()
    servers: tuple[tuple[str, int], ...] | None = None
    is_audited: bool = False


class LeafGrants(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The grants of one leaf service, its name for messages, and all its servers if a grant is limited to some.

    The name is `name@namespace` if the leaf is in another namespace than the called service. What no grant of an
    audited leaf allows passes, and is recorded.
    """

    service: str = ""
    grants: tuple[Grant, ...] = ()
    servers: tuple[tuple[str, int], ...] = ()
    is_audited: bool = False


class AclSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The grants of each leaf service with weight, by destination: the key of a service port, or of a branch, a rule, a
    backend of rules, or a side service of one.

    Every leaf must allow a client. A destination that is missing or has no leaf allows no client. `traffic_type` is
    that of the service, unless it is HTTP.
    """

    destinations: dict[str, tuple[LeafGrants, ...]] = {}
    datagrams: dict[str, tuple[LeafGrants, ...]] | msgspec.UnsetType = msgspec.UNSET
    """The destinations of UDP, if a TCP port that is routed has the same number; proxies never get them under this
    name."""
    traffic_type: str | msgspec.UnsetType = msgspec.UNSET


PLUGIN = Plugin(
    hook_api_version=1,
    settings=AccessSettings,
    controller="maesh_acl.controller:ControllerHalf",
    proxy="maesh_acl.hooks:ProxyHalf",
    is_access_control=True,
)
