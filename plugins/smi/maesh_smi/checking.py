"""Finds splits without effect, and invalid route groups: errors of single objects.

Errors in the effect of a split on its service are found when the service is built (splits.py), and not here.
"""

from collections.abc import Sequence

from maesh_core.plugin import Findings, ObjectKey, TopologyView, suggest
from maesh_smi.kinds import HttpRouteGroup, TrafficSplit

NAME_CUTOFF = 0.6
"""Required similarity of a wrong name to the service name that is suggested."""


class SplitChecker:
    """Checks whether the service of a split exists."""

    type = TrafficSplit

    def check(self, view: TopologyView, resource: TrafficSplit, services: Sequence[ObjectKey]) -> Findings | None:
        """Return why a split that concerns no service has no effect."""
        if services:
            return None
        root, name = resource.root, resource.spec.service
        if root is None:
            return Findings(errors=(f"service {name} is in another namespace, so the split has no effect",))
        known = view.list_services(root.namespace)
        if root not in known:
            hint = suggest(root.name, (each.name for each in known), cutoff=NAME_CUTOFF)
            return Findings(errors=(f"there is no service {root.name} in namespace {root.namespace}{hint}",))
        node = view.build_service(root)
        if node is None:
            reason = f"the mesh ignores service {root.name}"
        elif node.ports:
            reason = f"another TrafficSplit of service {root.name} gets all of its requests"
        else:
            reason = f"service {root.name} has no port"
        return Findings(notices=(f"it has no effect: {reason}",))


class GroupChecker:
    """Checks whether a route group's matches are usable."""

    type = HttpRouteGroup

    def check(self, view: TopologyView, resource: HttpRouteGroup, services: Sequence[ObjectKey]) -> None:
        """Raise ConfigurationError if they are not."""
        resource.build_matches()
