"""Finds splits that divide nothing, and route groups that are bad: what is wrong with an object by itself.

What a split does to its service is found when the service is built (splits.py), and is not looked for here.
"""

from collections.abc import Sequence

from maesh_core.plugin import Findings, ObjectKey, TopologyView, suggest
from maesh_smi.kinds import HttpRouteGroup, TrafficSplit

NAME_CUTOFF = 0.6
"""How like a service's name a wrong one must be to be taken for it."""


class SplitChecker:
    """Looks for the service that a split divides."""

    type = TrafficSplit

    def check(self, view: TopologyView, resource: TrafficSplit, services: Sequence[ObjectKey]) -> Findings | None:
        """Say why a split that concerns no service divides nothing."""
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
        reason = f"the mesh ignores service {root.name}" if node is None else f"service {root.name} has no port"
        return Findings(notices=(f"it has no effect: {reason}",))


class GroupChecker:
    """Looks whether a route group's matches can be used."""

    type = HttpRouteGroup

    def check(self, view: TopologyView, resource: HttpRouteGroup, services: Sequence[ObjectKey]) -> None:
        """Raise ConfigurationError where they cannot."""
        resource.build_matches()
