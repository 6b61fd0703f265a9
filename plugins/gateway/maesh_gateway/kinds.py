"""The kinds of the Gateway API that the plugin reads, with their versions and indexes.

A kind that the API server does not serve is an empty list. Routes without a parent of kind Service concern the mesh in
no way, so no index finds them.
"""

from maesh_core.plugin import ObjectKey, ResourceKind
from maesh_gateway.reading.request_routes import read_grant, read_grpc_route, read_http_route
from maesh_gateway.reading.shapes import GROUP
from maesh_gateway.reading.stream_routes import read_tcp_route, read_udp_route
from maesh_gateway.routes import GrpcRoute, HttpRoute, ReferenceGrant, Route, TcpRoute, UdpRoute

ROUTES_BY_PARENT = "parent"
"""Routes by the ObjectKey of each Service that is their parent."""
GRANTS_BY_NAMESPACE = "namespace"
"""ReferenceGrants by their namespace, which is that of the objects that may be referred to."""


def _index_by_parent(route: Route) -> tuple[ObjectKey, ...]:
    return tuple(dict.fromkeys(parent.service for parent in route.parents))


def _index_by_namespace(grant: ReferenceGrant) -> tuple[str, ...]:
    return (grant.metadata.namespace,)


ROUTE_TYPES: tuple[type[Route], ...] = (HttpRoute, GrpcRoute, TcpRoute, UdpRoute)

KINDS = (
    ResourceKind(
        name="HTTPRoute",
        plural="httproutes",
        api_versions=(f"{GROUP}/v1", f"{GROUP}/v1beta1"),
        type=HttpRoute,
        read=read_http_route,
        indexes={ROUTES_BY_PARENT: _index_by_parent},
    ),
    ResourceKind(
        name="GRPCRoute",
        plural="grpcroutes",
        api_versions=(f"{GROUP}/v1",),
        type=GrpcRoute,
        read=read_grpc_route,
        indexes={ROUTES_BY_PARENT: _index_by_parent},
    ),
    ResourceKind(
        name="TCPRoute",
        plural="tcproutes",
        api_versions=(f"{GROUP}/v1", f"{GROUP}/v1alpha2"),
        type=TcpRoute,
        read=read_tcp_route,
        indexes={ROUTES_BY_PARENT: _index_by_parent},
        shown_name=f"TCPRoute.{GROUP}",
    ),
    ResourceKind(
        name="UDPRoute",
        plural="udproutes",
        api_versions=(f"{GROUP}/v1", f"{GROUP}/v1alpha2"),
        type=UdpRoute,
        read=read_udp_route,
        indexes={ROUTES_BY_PARENT: _index_by_parent},
        shown_name=f"UDPRoute.{GROUP}",
    ),
    ResourceKind(
        name="ReferenceGrant",
        plural="referencegrants",
        api_versions=(f"{GROUP}/v1", f"{GROUP}/v1beta1"),
        type=ReferenceGrant,
        read=read_grant,
        indexes={GRANTS_BY_NAMESPACE: _index_by_namespace},
    ),
)
