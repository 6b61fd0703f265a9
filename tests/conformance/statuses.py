"""Compares the status of a route with what the case must lead to.

Takes the manifest of a route and the entries of its status; returns what differs. The suite only waits for `Accepted`
and `ResolvedRefs`; this compares every condition with its reason, the parents, and the generation.
"""

from collections.abc import Mapping, Sequence
from typing import Any

CONTROLLER = "maesh.containo.us/mesh"
Conditions = frozenset[tuple[str, str, str]]
"""Type, status and reason of each condition."""

VALID: Conditions = frozenset({("Accepted", "True", "Accepted"), ("ResolvedRefs", "True", "ResolvedRefs")})
OTHERS: Mapping[str, Conditions] = {
    "mesh-grpc-weighted-backends": frozenset(
        {("Accepted", "True", "Accepted"), ("ResolvedRefs", "False", "BackendNotFound")}
    )
}
"""Routes with other conditions. The suite has no Service echo-v3, to which this route gives weight 0. A reference to a
Service that does not exist makes ResolvedRefs false, also if it gets no request (HTTPRouteSpec, backendRefs)."""


def find_status_difference(route: Mapping[str, Any], parents: Sequence[Mapping[str, Any]]) -> str:
    """Describe what is wrong with the entries of a route's status; empty if nothing is."""
    metadata = route["metadata"]
    wanted = [_name_parent(each) for each in route["spec"]["parentRefs"]]
    found = [_name_parent(each["parentRef"]) for each in parents]
    if sorted(found) != sorted(wanted):
        return f"the parents {found}, not {wanted}"
    conditions = OTHERS.get(metadata["name"], VALID)
    for parent in parents:
        if parent["controllerName"] != CONTROLLER:
            return f"the controller {parent['controllerName']}"
        if (given := _read_conditions(parent)) != conditions:
            return f"{sorted(given)}, not {sorted(conditions)}"
        observed = {each.get("observedGeneration", 0) for each in parent["conditions"]}
        if observed != {metadata.get("generation", 0)}:
            return f"the generations {observed}, not {metadata.get('generation', 0)}"
    return ""


def _name_parent(reference: Mapping[str, Any]) -> tuple[str, str, str]:
    return reference.get("kind", ""), reference["name"], str(reference.get("port", ""))


def _read_conditions(parent: Mapping[str, Any]) -> Conditions:
    return frozenset((each["type"], each["status"], each["reason"]) for each in parent["conditions"])
