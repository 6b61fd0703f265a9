"""What each parent of a route decides about it, for the status of the route.

Takes the route and the nodes of the services that it concerns, on which the topology builder has left its findings.
Pure. A parent without a node is no Service that the mesh knows.
"""

from collections.abc import Mapping

import msgspec

from maesh_core.plugin import ObjectKey, ServiceNode
from maesh_gateway.attachments import AcceptedReason, Attachment, Attachments, RefProblem, build_route_label
from maesh_gateway.routes import ParentRef, Route, RuleProblem

NAME = "gateway"
"""The name of the topology builder."""


class ParentVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict about one parent. An empty `reason` means that the route is accepted on `ports`.

    `rules` are the rules that are not in force as written.
    """

    parent: ParentRef
    reason: AcceptedReason = ""
    message: str = ""
    ports: tuple[int, ...] = ()
    refs: tuple[RefProblem, ...] = ()
    rules: tuple[RuleProblem, ...] = ()


def judge(route: Route, services: Mapping[ObjectKey, ServiceNode]) -> tuple[ParentVerdict, ...]:
    """Judge each parent of kind Service by itself, in the order of `spec.parentRefs`."""
    return tuple(_judge_parent(route, parent, services.get(parent.service)) for parent in route.parents)


def _judge_parent(route: Route, parent: ParentRef, service: ServiceNode | None) -> ParentVerdict:
    if parent.problem:
        return ParentVerdict(parent=parent, reason="UnsupportedValue", message=parent.problem)
    found = None if service is None else _find_attachment(route, parent, service)
    if found is None:
        text = f"there is no Service {parent.service.name} in namespace {parent.service.namespace}"
        return ParentVerdict(parent=parent, reason="NoMatchingParent", message=text)
    return ParentVerdict(
        parent=parent,
        reason=found.reason,
        message=found.message,
        ports=found.ports,
        refs=found.refs,
        rules=found.rules,
    )


def _find_attachment(route: Route, parent: ParentRef, service: ServiceNode) -> Attachment | None:
    attachments = service.additions.get(NAME)
    if not isinstance(attachments, Attachments):
        return None
    found = attachments.routes.get(build_route_label(route.kind, route.metadata.namespace, route.metadata.name), ())
    return next((each for each in found if each.parent == parent.index), None)
