"""The statuses of routes: the conditions of each parent, as RouteParentStatus of the Gateway API defines them.

Takes a route and the nodes of the services that it concerns; returns an entry for each parent of kind Service. Pure.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from maesh_core.plugin import CONTROLLER_NAME, ObjectKey, RuleProblem, ServiceNode, Status, TopologyView
from maesh_gateway.routes import ParentRef, Route
from maesh_gateway.statuses.verdicts import ParentVerdict, judge

ACCEPTED = "Accepted"
RESOLVED_REFS = "ResolvedRefs"
PARTIALLY_INVALID = "PartiallyInvalid"
TEXTS_LIMIT = 8
"""Limit of texts in one message."""
MESSAGE_LIMIT = 4000
"""Limit of a message in characters; the CRD allows 32,768."""

_PARENT_FIELDS: Mapping[str, type] = {
    "group": str,
    "kind": str,
    "namespace": str,
    "name": str,
    "sectionName": str,
    "port": int,
}
Condition = Mapping[str, Any]


class RouteStatusBuilder:
    """Builds the statuses of the routes of one kind."""

    page = "routes"
    field = "parents"
    condition_types = (ACCEPTED, RESOLVED_REFS, PARTIALLY_INVALID)

    def __init__(self, type_: type[Route]) -> None:
        self.type = type_

    def build_status(
        self, view: TopologyView, resource: Route, services: Mapping[ObjectKey, ServiceNode]
    ) -> Status | None:
        """Build the entries of the parents of kind Service; None if there is none."""
        entries = [
            {
                "parentRef": _build_parent_ref(verdict.parent),
                "controllerName": CONTROLLER_NAME,
                "conditions": _build_conditions(resource, verdict, services.get(verdict.parent.service)),
            }
            for verdict in judge(resource, services)
        ]
        return Status(entries=tuple(entries)) if entries else None


def _build_parent_ref(parent: ParentRef) -> Mapping[str, Any]:
    """Copy a parentRef as it is written; of one that is not valid, only what a status can have."""
    return {name: value for name, value in parent.written.items() if isinstance(value, _PARENT_FIELDS.get(name, ()))}


def _build_conditions(route: Route, verdict: ParentVerdict, service: ServiceNode | None) -> list[Condition]:
    refused = dict(_list_refused_rules(route, verdict, service))
    invalid = {**dict(_list_invalid_backends(route, verdict, service)), **refused}
    reason, message = verdict.reason, verdict.message
    if not reason and len(refused) == len(route.rules) > 0:
        reason, message = "UnsupportedValue", _join(refused.values())
    generation = route.metadata.generation
    if reason:
        conditions = [_build(ACCEPTED, "False", reason, message, generation)]
    else:
        ports = " and ".join(map(str, verdict.ports))
        message = f"it decides about port{'s' * (len(verdict.ports) > 1)} {ports} of {verdict.parent.service.name}"
        conditions = [_build(ACCEPTED, "True", ACCEPTED, message, generation)]
    if verdict.refs:
        text = _join(each.text for each in verdict.refs)
        conditions.append(_build(RESOLVED_REFS, "False", verdict.refs[0].reason, text, generation))
    elif not reason or reason == "Conflicted":
        conditions.append(_build(RESOLVED_REFS, "True", RESOLVED_REFS, "", generation))
    if invalid and not reason:
        conditions.append(_build(PARTIALLY_INVALID, "True", "UnsupportedValue", _describe_dropped(invalid), generation))
    return conditions


def _list_refused_rules(route: Route, verdict: ParentVerdict, service: ServiceNode | None) -> Iterator[tuple[int, str]]:
    """List the rules that are not in force, by index: those that cannot be used, and those with an invalid filter."""
    for index, problem in _list_problems(route, verdict, service):
        if problem.backend is None:
            yield index, problem.text
    for each in verdict.rules:
        yield each.rule, each.text


def _list_invalid_backends(
    route: Route, verdict: ParentVerdict, service: ServiceNode | None
) -> Iterator[tuple[int, str]]:
    """List the rules with a backend whose filter is invalid, by index: its share is answered with an error."""
    for index, problem in _list_problems(route, verdict, service):
        if problem.backend is not None:
            yield index, f"rules[{index}]: backend {problem.backend}: {problem.text}"


def _list_problems(
    route: Route, verdict: ParentVerdict, service: ServiceNode | None
) -> Iterator[tuple[int, RuleProblem]]:
    """List what the plugins that build filters have refused of a route, by the index of its rule."""
    for problem in () if service is None else service.rule_problems:
        index = problem.rule.rpartition("/")[2]
        is_of_route = problem.origin == (type(route), route.key) and index.isdecimal()
        if is_of_route and problem.port in verdict.ports:
            yield int(index), problem


def _describe_dropped(refused: Mapping[int, str]) -> str:
    """Describe rules that have no effect but an error; the message must begin like this (RouteConditionType)."""
    indexes = sorted(refused)
    head = f"Dropped Rule{'s' * (len(indexes) > 1)} {', '.join(map(str, indexes))}"
    return _cut(f"{head}: {_join(refused[index] for index in indexes)}")


def _build(type_: str, status: str, reason: str, message: str, generation: int) -> Condition:
    return {
        "type": type_,
        "status": status,
        "reason": reason,
        "message": _cut(message),
        "observedGeneration": generation,
    }


def _join(texts: Iterable[str]) -> str:
    found: Sequence[str] = list(dict.fromkeys(texts))
    rest = len(found) - TEXTS_LIMIT
    return "; ".join(found[:TEXTS_LIMIT]) + (f"; and {rest} more" if rest > 0 else "")


def _cut(text: str) -> str:
    return text if len(text) <= MESSAGE_LIMIT else f"{text[: MESSAGE_LIMIT - 1]}…"
