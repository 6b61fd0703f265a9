"""What was found about the routes of a service. Not compiled: mypyc drops the keywords of a class.

The topology builder leaves it on the service's node, where the status of routes is read from.
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
    """All attachments of a service, by the kind and names of their routes (`build_place`)."""

    routes: Mapping[str, tuple[Attachment, ...]] = {}


def build_place(kind: str, namespace: str, name: str) -> str:
    """Build the place of a route's attachments."""
    return f"{kind} {namespace}/{name}"


def group_attachments(found: Iterable[Attachment]) -> Attachments:
    """Group attachments by their routes, in order."""
    routes: dict[str, list[Attachment]] = {}
    for each in found:
        routes.setdefault(build_place(each.kind, each.namespace, each.name), []).append(each)
    return Attachments(routes={place: tuple(items) for place, items in routes.items()})
