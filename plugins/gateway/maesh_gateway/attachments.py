"""What became of the routes that name a service: one attachment for each parentRef.

The topology builder leaves them on the node of the service, from which the statuses of routes are built.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from maesh_gateway.routes import RuleProblem

RefReason = Literal["InvalidKind", "BackendNotFound", "RefNotPermitted", "UnsupportedProtocol"]
AcceptedReason = Literal["", "NoMatchingParent", "UnsupportedValue", "IncompatibleFilters", "Conflicted"]
"""Why a route is not accepted by a parent; empty if it is."""


class RefProblem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A reference of a rule to a backend that cannot be used; `reason` is that of the condition ResolvedRefs."""

    rule: int
    reason: RefReason
    text: str


class Attachment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one parentRef, at index `parent`, of a route; `ports` are those that use the route."""

    kind: str
    namespace: str
    name: str
    parent: int
    ports: tuple[int, ...] = ()
    reason: AcceptedReason = ""
    message: str = ""
    refs: tuple[RefProblem, ...] = ()
    rules: tuple[RuleProblem, ...] = ()


class Attachments(msgspec.Struct, frozen=True, kw_only=True):
    """All attachments of a service, by the kind and names of their routes (`build_route_label`)."""

    routes: Mapping[str, tuple[Attachment, ...]] = {}


def build_route_label(kind: str, namespace: str, name: str) -> str:
    """Build the label under which the attachments of a route are kept, as `HTTPRoute shop/web`."""
    return f"{kind} {namespace}/{name}"


def group_attachments(found: Iterable[Attachment]) -> Attachments:
    """Group attachments by their routes, in order."""
    routes: dict[str, list[Attachment]] = {}
    for each in found:
        routes.setdefault(build_route_label(each.kind, each.namespace, each.name), []).append(each)
    return Attachments(routes={label: tuple(items) for label, items in routes.items()})
