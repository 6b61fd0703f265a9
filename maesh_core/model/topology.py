"""Who calls whom: services, their ports and the servers behind them, as the cluster's objects say.

Values only. A service's node is a pure function of the resources it was built from; errors and notices stay on the
node they concern. Plugins add their findings under `additions`, by the plugin's name.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from maesh_core.model.findings import ObjectFindings
from maesh_core.model.keys import ObjectKey
from maesh_core.model.matches import HttpMatch
from maesh_core.model.resources import ContainerPort


class _Node(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of all nodes."""


class ServerNode(_Node, frozen=True, gc=False):
    """An address that serves one service port. `pod` is None for endpoints written by hand."""

    address: str
    port: int
    pod: ObjectKey | None = None


class BackendNode(_Node, frozen=True):
    """A service that gets a share of another's traffic: `port` is its own port of the same number."""

    service: ObjectKey
    weight: int
    port: "PortNode"
    annotations: Mapping[str, str] = {}


class BranchNode(_Node, frozen=True):
    """Traffic of a port that goes elsewhere: requests that any of `matches` is about, or all.

    `name` tells branches of one port apart, as a part of keys. No backend with weight means that nothing can be served.
    """

    name: str
    matches: tuple[HttpMatch, ...] = ()
    backends: tuple[BackendNode, ...] = ()


class PortNode(_Node, frozen=True, gc=False):
    """A service port with the servers ready behind it, sorted by address.

    `index` is its place in `spec.ports`. `target_port` is what the Service says, by number or name.
    """

    number: int
    name: str = ""
    protocol: str = "TCP"
    index: int = 0
    target_port: int | str = 0
    servers: tuple[ServerNode, ...] = ()
    branches: tuple[BranchNode, ...] = ()
    """What plugins send elsewhere, in order; the rest goes to `servers`."""
    unserved: str = ""
    """Why there is no server; empty where there is one."""


class PodNode(_Node, frozen=True, gc=False):
    """A pod behind a service, or one that a plugin's rules name."""

    key: ObjectKey
    service_account: str
    address: str
    owners: tuple[str, ...] = ()
    """`Kind/name` of each owner."""
    container_ports: tuple[ContainerPort, ...] = ()


class ServiceNode(_Node, frozen=True):
    """A service of the user's.

    `traffic_type` is None when the annotation is bad; the error says so. `cluster_ips` is empty for headless services.
    As plugins see it, `annotations` has the mesh's annotations by their names without prefix, and all others by their
    full names; `additions` has what topology builders found, by the builders' names.
    """

    key: ObjectKey
    traffic_type: str | None
    annotations: Mapping[str, str] = {}
    selector: Mapping[str, str] = {}
    cluster_ips: tuple[str, ...] = ()
    is_headless: bool = False
    ports: tuple[PortNode, ...] = ()
    pods: tuple[PodNode, ...] = ()
    additions: Mapping[str, Any] = {}
    named_pods: tuple[PodNode, ...] = ()
    """Pods that plugins' rules name."""
    sections: Mapping[str, Mapping[str, Any]] = {}
    """What plugins show in sections of the topology of their own, by `name@namespace`."""
    objects: tuple[ObjectFindings, ...] = ()
    """The objects that plugins' builders looked at for this service, and what is wrong with each."""
    errors: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
