"""The hooks that add to the topology, and the interfaces of builders and checkers."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from maesh_core.model.findings import Findings, ObjectFindings
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Resource
from maesh_core.model.topology import BackendNode, BranchNode, PodNode, PortRules, ServiceNode
from maesh_core.plugin_system.hookspecs.markers import hookspec
from maesh_core.plugin_system.interfaces.views import TopologyView
from maesh_core.plugin_system.outside import OutsideRules

# --- topology --------------------------------------------------------------------------------------------------------


class Addition(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a topology builder for one service.

    The topology API shows `value`, if it is not None, as `additions.NAME` of the service, where NAME is the builder's
    `name`; other parts of plugins in the controller read it as `service.additions["NAME"]`. Errors close the service.
    """

    value: object = None
    """A struct, or another value that msgspec can encode as JSON; for any other value, an error is shown instead."""
    branches: Mapping[tuple[int, str], tuple[BranchNode, ...]] = {}
    """Traffic that goes to other services, by port number and protocol; only rules may answer or filter."""
    rules: Mapping[tuple[int, str], PortRules] = {}
    """Rules that decide about all traffic of a port, by its number and protocol; only one builder may have some."""
    side_backends: Mapping[tuple[int, str], Mapping[str, BackendNode]] = {}
    """Services that get copies of a port's requests, by port number and protocol, then by the name in their keys."""
    traffic_types: Mapping[tuple[int, str], str] = {}
    """Traffic types of ports for which neither an annotation nor `appProtocol` decides."""
    pods: tuple[PodNode, ...] = ()
    """Pods that rules refer to; they need not be behind the service. The topology shows them."""
    sections: Mapping[str, Mapping[str, object]] = {}
    """Entries of the topology's sections, such as `trafficSplits`, by `name@namespace`."""
    objects: tuple[ObjectFindings, ...] = ()
    """The plugin's objects that concern the service, with their errors and notices, which `/api/objects` shows."""
    errors: tuple[str, ...] = ()
    """Shown on the service, which is closed; clients get the first error as the reason."""
    notices: tuple[str, ...] = ()
    """Shown on the service, which is served nevertheless."""


class TopologyBuilder(Protocol):
    """Adds to the graph what a plugin reads from its own kinds. Its name must be unique.

    It receives the service as the core built it, unless it is a `LastTopologyBuilder`.
    """

    name: str

    def build(self, view: TopologyView, service: ServiceNode) -> Addition | None:
        """Build what concerns a service, or return None; pure.

        Raising ConfigurationError closes the service and shows the text on it.
        """


class LastTopologyBuilder(TopologyBuilder, Protocol):
    """A topology builder that runs after the others if `is_last` is true, and receives what they added."""

    is_last: bool


class ObjectChecker(Protocol):
    """Finds what is wrong with objects of one kind, whether or not they concern a service.

    It runs again when the object changes, when something that it read changes, and when the object concerns other
    services. Several checkers may check the same kind.
    """

    @property
    def type(self) -> type[Resource]:
        """The class of the objects that it checks."""

    def check(self, view: TopologyView, resource: Any, services: Sequence[ObjectKey]) -> Findings | None:
        """Check one object; pure. `services` are those whose `Addition.objects` contain it, sorted.

        Raising ConfigurationError makes the text an error of the object.
        """


class TopologySpecs(Protocol):
    """Hooks that add to the topology."""

    @hookspec
    def maesh_topology_builders(self) -> Sequence[TopologyBuilder]:
        """Return builders that add to each service's node. Controller; once, at start; raising stops the start."""

    @hookspec
    def maesh_outside_rules(self) -> Sequence[OutsideRules]:
        """Return which servers outside of the mesh are carried. Controller; once, at start; raising stops the start."""

    @hookspec
    def maesh_object_checkers(self) -> Sequence[ObjectChecker]:
        """Return checkers that find objects without effect. Controller; once, at start; raising stops the start."""
