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
from maesh_core.model.resources import ContainerPort, Resource
from maesh_core.model.transport import ClientEntry


class _Node(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of all nodes."""


class ServerNode(_Node, frozen=True, gc=False):
    """An address that serves one service port. `pod` is None for manually written endpoints.

    `node` is the name of its node, if there is a transport and the node is known. With `is_name`, `address` is the DNS
    name of a server outside of the mesh, which each proxy resolves.
    """

    address: str
    port: int
    pod: ObjectKey | None = None
    node: str = ""
    is_name: bool = False


class AnswerNode(_Node, frozen=True):
    """The mesh's own response in place of a backend's; `grpc_status` None means the one that fits `status`."""

    status: int
    reason: str
    grpc_status: int | None = None


class FilterNode(_Node, frozen=True):
    """A filter of a rule or of a backend: its name in the Gateway API, and its value in the shape of that API."""

    name: str
    value: Mapping[str, Any] = {}


class BackendNode(_Node, frozen=True):
    """A service that gets a share of another's traffic through its own port `port`.

    For a TrafficSplit, that port has the same number. `answer` is set instead of `port` if the backend cannot be used:
    its share is answered so. `protocol` is the one that a route requires (`h2c`); empty if the service decides.
    """

    service: ObjectKey
    weight: int
    port: "PortNode | None" = None
    annotations: Mapping[str, str] = {}
    filters: tuple[FilterNode, ...] = ()
    answer: AnswerNode | None = None
    protocol: str = ""

    @property
    def servers(self) -> tuple[ServerNode, ...]:
        """The ready servers of its port."""
        return () if self.port is None else self.port.servers


class BranchNode(_Node, frozen=True):
    """Traffic of a port that goes to other services: requests that match any of `matches`, or all.

    `name` distinguishes the branches of one port, as a part of keys. Without a backend with weight, nothing can be
    served. It is also a rule of a `RuleTable`, whose `order` has the matches.
    """

    name: str
    matches: tuple[HttpMatch, ...] = ()
    backends: tuple[BackendNode, ...] = ()
    filters: tuple[FilterNode, ...] = ()
    answer: AnswerNode | None = None
    """The response to everything that matches, in place of a backend's."""
    keeps_shares: bool = False
    """Whether the share of a backend without servers is answered with 503; otherwise the other backends get it."""
    keeps_idle: bool = False
    """Whether middlewares may choose backends of weight 0, as those of a session do."""
    origin: tuple[type[Resource], ObjectKey] | None = None
    """The object that defines it."""
    label: str = ""
    """The rule's own name in that object, if it has one."""


class OrderedMatch(_Node, frozen=True):
    """A match of the rule at index `rule` of a `RuleTable`."""

    match: HttpMatch
    rule: int


class RuleTable(_Node, frozen=True):
    """Rules of a port: the first of `order` that a request matches decides; `no_match` answers all other requests.

    A rule with several matches is in `order` once for each. A table without rules answers every request.
    """

    no_match: AnswerNode
    rules: tuple[BranchNode, ...] = ()
    order: tuple[OrderedMatch, ...] = ()


class PortRules(_Node, frozen=True):
    """The rules that a topology builder defines for one port: `producer` for all clients, or None for no such rules.

    `consumers` has the rules for clients of other namespaces, by namespace; these clients do not use `producer`.
    """

    producer: RuleTable | None = None
    consumers: Mapping[str, RuleTable] = {}


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
    rules: RuleTable | None = None
    """Rules that decide about all traffic, in place of `branches` and `servers`."""
    consumers: Mapping[str, RuleTable] = {}
    """Rules for the clients of a namespace, in place of `rules`."""
    traffic_type: str | None = None
    """The traffic type of this port, if it differs from the service's; `ServiceNode.get_traffic_type` reads it."""
    side_backends: Mapping[str, BackendNode] = {}
    """Services that get copies of requests, by the last part of their keys."""


class RuleProblem(_Node, frozen=True):
    """Why a rule of a port answers with an error, or why a part of it has no effect; `text` is for a person.

    `rule` is the rule's name in keys, `label` its own one, and `namespace` that of the clients, if it is for consumers.
    `filter` is the name of the filter that cannot be built, and `backend` the only backend that it concerns, if any.
    """

    port: int
    text: str
    rule: str = ""
    label: str = ""
    origin: tuple[type[Resource], ObjectKey] | None = None
    namespace: str = ""
    filter: str = ""
    backend: ObjectKey | None = None

    @property
    def place(self) -> str:
        """The rule as its object has it: its label, or the index with which its name ends; empty without both."""
        index = self.rule.rpartition("/")[2]
        return f"rule {self.label}" if self.label else f"rules[{index}]" if index.isdecimal() else ""


class PodNode(_Node, frozen=True, gc=False):
    """A pod behind a service, or one that a plugin's rules refer to."""

    key: ObjectKey
    service_account: str
    address: str
    owners: tuple[str, ...] = ()
    """`Kind/name` of each owner."""
    container_ports: tuple[ContainerPort, ...] = ()
    node: str = ""
    """The name of its node, once it is scheduled."""


class ServiceNode(_Node, frozen=True):
    """A user's service.

    `traffic_type` is None if the annotation is invalid; an error says so. `cluster_ips` is empty for headless services.
    `shadow_ips` are the cluster addresses of its shadow service; none without a cluster.
    For plugins, `annotations` has the mesh's annotations by their names without prefix, and all others by their full
    names; `additions` has the values of topology builders, by the builders' names.
    """

    key: ObjectKey
    traffic_type: str | None
    annotations: Mapping[str, str] = {}
    selector: Mapping[str, str] = {}
    cluster_ips: tuple[str, ...] = ()
    shadow_ips: tuple[str, ...] = ()
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
    namespace_annotations: Mapping[str, Mapping[str, str]] = {}
    """With a transport: the mesh's annotations of its namespace, and of those of its backends, by namespace."""
    clients: Mapping[str, ClientEntry] = {}
    """With a transport: the pods of `named_pods` that an address identifies, by address."""
    rule_problems: tuple[RuleProblem, ...] = ()
    """What is wrong with rules of its ports; builders of statuses also see the problems of filters."""

    def get_traffic_type(self, port: PortNode) -> str | None:
        """Return the traffic type of one of its ports; None if the annotation is invalid."""
        return self.traffic_type if port.traffic_type is None else port.traffic_type
