"""Suggests TrafficTargets from observed traffic: the least access under which all of it passes.

Takes a topology and observations. Returns objects that are ready to apply, with notes for the person who decides.
Allowed traffic needs no suggestion, and existing objects are not changed. Pure.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from maesh_acl.suggesting.documents import Suggestion, build_suggestion
from maesh_acl.suggesting.mesh import Mesh
from maesh_acl.suggesting.observation import Observation
from maesh_acl.suggesting.planning import LeftOut, plan_access
from maesh_acl.suggesting.rules import PathOptions, build_rules

__all__ = ["Observation", "PathOptions", "Suggestion", "Suggestions", "suggest"]


class Suggestions(msgspec.Struct, frozen=True, kw_only=True):
    """What was suggested, what could not be, and the number of requests that are allowed already."""

    suggestions: tuple[Suggestion, ...]
    left_out: tuple[LeftOut, ...]
    allowed: int


def suggest(
    topology: Mapping[str, Any], observations: Iterable[Observation], options: PathOptions | None = None
) -> Suggestions:
    """Suggest what allows these observations. Raises msgspec.ValidationError if the topology is none."""
    mesh = Mesh(topology)
    plan = plan_access(mesh, observations)
    rules = build_rules(mesh, plan, options or PathOptions())
    return Suggestions(
        suggestions=tuple(sorted(map(build_suggestion, rules), key=lambda each: (each.namespace, each.name))),
        left_out=plan.left_out,
        allowed=plan.allowed,
    )
