"""The controller's half: watches SMI's kinds, and divides the traffic of services as TrafficSplits define."""

from collections.abc import Sequence

from maesh_core.plugin import (
    Addition,
    ObjectChecker,
    PolicyChecker,
    ResourceKind,
    ServiceNode,
    TopologyBuilder,
    TopologyView,
    hookimpl,
)
from maesh_smi.checking import GroupChecker, SplitChecker
from maesh_smi.kinds import KINDS
from maesh_smi.splits import Resolver


class SplitBuilder:
    """Finds the splits of each service."""

    name = "smi"

    def build(self, view: TopologyView, service: ServiceNode) -> Addition | None:
        """Resolve the service's splits; None if it has none."""
        resolver = Resolver(view, service)
        branches = {
            (port.number, port.protocol): found for port in service.ports if (found := resolver.build_branches(port))
        }
        if not resolver.shown:
            return None
        return Addition(
            value=resolver.unread,
            branches=branches,
            sections={"trafficSplits": resolver.show()},
            objects=resolver.list_objects(),
            notices=tuple(resolver.list_errors()),
        )


class ControllerHalf:
    """What the controller loads."""

    @hookimpl
    def maesh_resource_kinds(self) -> Sequence[ResourceKind]:
        """Watch SMI's kinds, except TrafficTarget."""
        return KINDS

    @hookimpl
    def maesh_topology_builders(self) -> Sequence[TopologyBuilder]:
        """Return the builder that resolves splits."""
        return [SplitBuilder()]

    @hookimpl
    def maesh_policy_checkers(self) -> Sequence[PolicyChecker]:
        """Return what `maesh check` reports about splits and route groups."""
        from maesh_smi.policy import GroupPolicyChecker, SplitPolicyChecker  # only for this command

        return [SplitPolicyChecker(), GroupPolicyChecker()]

    @hookimpl
    def maesh_object_checkers(self) -> Sequence[ObjectChecker]:
        """Return the checkers for splits without effect and invalid route groups."""
        return [SplitChecker(), GroupChecker()]
