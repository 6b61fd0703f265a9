"""Finds routes with errors that concern no service: missing parents, and rules that cannot be used.

Errors in the effect of a route on a service are found when the service is built (attaching/tables.py), and not here.
"""

from collections.abc import Sequence

from maesh_core.plugin import Findings, ObjectKey, TopologyView, suggest
from maesh_gateway.routes import ParentRef, Route

NAME_CUTOFF = 0.6
"""Required similarity of a wrong name to the service name that is suggested."""


class RouteChecker:
    """Checks the routes of one kind."""

    def __init__(self, type_: type[Route]) -> None:
        self.type = type_

    def check(self, view: TopologyView, resource: Route, services: Sequence[ObjectKey]) -> Findings | None:
        """Return what is wrong with a route, whether or not it concerns a service."""
        notices = [
            f'parentRefs[{index}] has no effect: a parent of kind Service needs group: ""'
            for index in resource.ungrouped
        ]
        if not resource.parents:
            return Findings(notices=tuple(notices)) if notices else None
        errors = [problem.text for problem in resource.problems]
        notices += ["hostnames have no effect in a mesh; match the header Host"] if resource.has_hostnames else []
        for parent in resource.parents:
            if parent.problem:
                errors.append(parent.problem)
            elif parent.service not in services:
                error, notice = _explain_missing(view, parent, resource.metadata.namespace)
                errors += [error] if error else []
                notices += [notice] if notice else []
        return Findings(errors=tuple(errors), notices=tuple(notices)) if errors or notices else None


def _explain_missing(view: TopologyView, parent: ParentRef, namespace: str) -> tuple[str, str]:
    """Explain why a parent is not used: an error, or a notice."""
    key = parent.service
    if key.namespace != namespace:  # a search in a foreign namespace would be repeated at each of its changes
        found = view.build_service(key)
        text = f"parentRefs[{parent.index}]: the mesh knows no service {key.name} in namespace {key.namespace}"
        return "" if found is not None else text, ""
    known = view.list_services(key.namespace)
    if key in known:
        return "", f"parentRefs[{parent.index}] has no effect: the mesh ignores service {key.name}"
    hint = suggest(key.name, (each.name for each in known), cutoff=NAME_CUTOFF)
    return f"parentRefs[{parent.index}]: there is no service {key.name} in namespace {key.namespace}{hint}", ""
