"""Decides whether a route may refer to a backend in another namespace.

In a mesh, no ReferenceGrant is needed: a client could call the backend itself (GEP-1294). The setting `strict` requires
one all the same, except for a consumer route that refers to its only parent, which its clients called anyway.
"""

from maesh_core.plugin import ObjectKey, TopologyView
from maesh_gateway import GatewaySettings
from maesh_gateway.kinds import GRANTS_BY_NAMESPACE
from maesh_gateway.reading.shapes import GROUP
from maesh_gateway.routes import ReferenceGrant, Route


def is_permitted(view: TopologyView, route: Route, backend: ObjectKey, settings: GatewaySettings) -> bool:
    """Whether a route may send requests to a Service."""
    namespace = route.metadata.namespace
    if settings.reference_grants == "mesh" or backend.namespace == namespace:
        return True
    if all(parent.service == backend for parent in route.parents):
        return True
    grants = view.find(ReferenceGrant, GRANTS_BY_NAMESPACE, backend.namespace)
    return any(_grants(grant, route.kind, namespace, backend.name) for grant in grants)


def _grants(grant: ReferenceGrant, kind: str, namespace: str, name: str) -> bool:
    if grant.faults:
        return False
    is_from = any((each.group, each.kind, each.namespace) == (GROUP, kind, namespace) for each in grant.from_)
    return is_from and any((each.group, each.kind) == ("", "Service") and each.name in ("", name) for each in grant.to)
