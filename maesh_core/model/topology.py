"""The topology: services, their ports and servers, as defined by the cluster's objects.

Values only. A service's node is a pure function of the resources it was built from; errors and notices are on the node
they concern. Plugins add their findings under `additions`, by the plugin's name.
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
    """An address that serves one service port. `pod` is None for manually written endpoints."""

    address: str
    port: int
    pod: ObjectKey | None = None


class BackendNode(_Node, frozen=True):
    """A service that gets a share of another's traffic: `port` is its own port with the same number."""

    service: ObjectKey
    weight: int
    port: "PortNode"
    annotations: Mapping[str, str] = {}


class BranchNode(_Node, frozen=True):
    """Traffic of a port that goes to other services: requests that match any of `matches`, or all.

    `name` distinguishes the branches of one port, as a part of keys. Without a backend with weight, nothing can be
    served.
    """

    name: str
    matches: tuple[HttpMatch, ...] = ()
    backends: tuple[BackendNode, ...] = ()


class PortNode(_Node, frozen=True, gc=False):
    """A service port with its ready servers, sorted by address.

    `index` is its index in `spec.ports`. `target_port` is that of the Service, a number or a name. `app_protocol` is
    the port's `appProtocol` as written, or empty.
    """

    number: int
    name: str = ""
    protocol: str = "TCP"
    index: int = 0
    target_port: int | str = 0
    servers: tuple[ServerNode, ...] = ()
    branches: tuple[BranchNode, ...] = ()
    """Traffic that plugins send elsewhere, in order; the rest goes to `servers`."""
    unserved: str = ""
    """Why there is no server; empty if there is one."""
    app_protocol: str = ""


class PodNode(_Node, frozen=True, gc=False):
    """A pod behind a service, or one that a plugin's rules refer to."""

    key: ObjectKey
    service_account: str
    address: str
    owners: tuple[str, ...] = ()
    """`Kind/name` of each owner."""
    container_ports: tuple[ContainerPort, ...] = ()


class ServiceNode(_Node, frozen=True):
    """A user's service.

    `traffic_type` is None if the annotation is invalid; an error says so. `cluster_ips` is empty for headless services.
    For plugins, `annotations` has the mesh's annotations by their names without prefix, and all others by their full
    names; `additions` has the values of topology builders, by the builders' names.
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
    """Pods that plugins' rules refer to."""
    sections: Mapping[str, Mapping[str, Any]] = {}
    """The contents of plugins' own sections of the topology, by `name@namespace`."""
    objects: tuple[ObjectFindings, ...] = ()
    """The objects that plugins' builders examined for this service, with their findings."""
    errors: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
