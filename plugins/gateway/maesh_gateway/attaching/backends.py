"""Resolves references to backends: the Service, its port, and whether the route may use them.

Takes a view and a route; returns the backend's node, and a problem if it cannot be used. An invalid backend keeps its
weight and answers its share of the requests with 500 (HTTPRouteRule.backendRefs).
"""

from maesh_core.plugin import (
    AnswerNode,
    BackendNode,
    ConfigurationError,
    ObjectKey,
    PortNode,
    ServiceNode,
    TopologyView,
    find_scheme,
    is_label,
    select_annotations,
)
from maesh_gateway import GatewaySettings
from maesh_gateway.attaching.claims import can_have_type, find_traffic_type
from maesh_gateway.attaching.grants import is_permitted
from maesh_gateway.attachments import RefProblem, RefReason
from maesh_gateway.routes import CORE_GROUPS, BackendRef, Route

GRPC_UNAVAILABLE = 14
H2C = "h2c"
SHOWN_CHARACTERS = 80
_NO_GRPC = frozenset({"http", "kubernetes.io/ws", "kubernetes.io/wss"})
"""Protocols of ports that cannot carry gRPC."""


class RefError(Exception):
    """A reference that cannot be resolved."""

    def __init__(self, reason: RefReason, text: str) -> None:
        super().__init__(text)
        self.reason: RefReason = reason


class BackendResolver:
    """Resolves the backends of routes of one service, for one build."""

    def __init__(self, view: TopologyView, service: ServiceNode, settings: GatewaySettings) -> None:
        self._view = view
        self._service = service
        self._settings = settings

    def resolve(self, route: Route, rule: int, backend: BackendRef) -> tuple[BackendNode, RefProblem | None]:
        """Resolve a reference; one that cannot be resolved is a node with an answer. Its filters are not set."""
        try:
            node, port = self._find(route, backend)
        except RefError as error:
            text = f"rules[{rule}]: backend {_show(backend.key, route)}: {error}"
            answer = AnswerNode(
                status=500,
                reason=f"{route.shown}, rules[{rule}]: a backend is invalid",
                grpc_status=GRPC_UNAVAILABLE if route.is_grpc else None,
            )
            failed = BackendNode(service=self._find_safe_key(backend.key), weight=backend.weight, answer=answer)
            return failed, RefProblem(rule=rule, reason=error.reason, text=text)
        found = BackendNode(
            service=node.key,
            weight=backend.weight,
            port=port,
            annotations=node.annotations,
            protocol=H2C if route.is_grpc and _has_default_scheme(node, port) else "",
        )
        return found, None

    def _find(self, route: Route, backend: BackendRef) -> tuple[ServiceNode, PortNode]:
        """Find the backend's Service and port. Raises RefError."""
        if backend.kind != "Service" or backend.group not in CORE_GROUPS:
            kind = f"{backend.group}/{backend.kind}" if backend.group else backend.kind
            raise RefError("InvalidKind", f"its kind {kind[:SHOWN_CHARACTERS]!a} is not Service")
        key = backend.key
        if not (is_label(key.namespace) and is_label(key.name)):
            raise RefError("BackendNotFound", "no Service can have this name")
        if not is_permitted(self._view, route, key, self._settings):
            raise RefError("RefNotPermitted", f"no ReferenceGrant in namespace {key.namespace} permits it")
        node = self._service if key == self._service.key else self._view.build_service(key)
        if node is None:
            raise RefError("BackendNotFound", "there is no such Service")
        if node.errors:
            raise RefError("BackendNotFound", f"the Service has an error: {node.errors[0]}")
        return node, _find_port(node, backend.port, route)

    def _find_safe_key(self, key: ObjectKey) -> ObjectKey:
        """Return a key whose names may be part of other keys."""
        return key if is_label(key.namespace) and is_label(key.name) else self._service.key


def _find_port(node: ServiceNode, number: int, route: Route) -> PortNode:
    """Find the port of a backend. Raises RefError if there is none, or if the route cannot use it."""
    port_id = (number, route.protocol)
    port = next((each for each in node.ports if (each.number, each.protocol) == port_id), None)
    if port is None:
        raise RefError("BackendNotFound", f"the Service has no {route.protocol} port {number}")
    if not can_have_type(node, port, route.traffic_type):
        found = find_traffic_type(node, port)
        raise RefError("UnsupportedProtocol", f"its port {number} has the traffic type {found}")
    if route.traffic_type == "http" and port.app_protocol and not _has_scheme(node, port):
        scheme = find_scheme(port.app_protocol)
        if scheme is None or (route.is_grpc and port.app_protocol in _NO_GRPC):
            shown = ascii(port.app_protocol[:SHOWN_CHARACTERS])
            raise RefError("UnsupportedProtocol", f"the appProtocol {shown} of its port {number} is not supported")
    return port


def _has_scheme(node: ServiceNode, port: PortNode) -> bool:
    """Whether an annotation of the Service says how its port is called."""
    try:
        return "scheme" in select_annotations(node.annotations, port)
    except ConfigurationError:  # it is an error of that service
        return False


def _has_default_scheme(node: ServiceNode, port: PortNode) -> bool:
    return not port.app_protocol and not _has_scheme(node, port)


def _show(key: ObjectKey, route: Route) -> str:
    name = key.name if key.namespace == route.metadata.namespace else f"{key.namespace}/{key.name}"
    return name if name.isascii() and name.isprintable() else ascii(name)
