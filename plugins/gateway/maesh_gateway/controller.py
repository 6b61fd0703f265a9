"""The controller's half: watches the kinds of the Gateway API, and routes the traffic of services as routes define."""

from collections.abc import Sequence

from maesh_core.plugin import (
    CLIENT_NAMESPACES,
    Addition,
    ObjectChecker,
    OptionalSection,
    PolicyChecker,
    ResourceKind,
    ServiceNode,
    StatusBuilder,
    TopologyBuilder,
    TopologyView,
    hookimpl,
)
from maesh_gateway import GatewaySettings
from maesh_gateway.attaching.splits import SplitNoticeBuilder
from maesh_gateway.attaching.tables import TableBuilder
from maesh_gateway.attachments import group_attachments
from maesh_gateway.checking import RouteChecker
from maesh_gateway.kinds import KINDS, ROUTE_TYPES
from maesh_gateway.statuses.status import RouteStatusBuilder
from maesh_gateway.statuses.verdicts import NAME


class RouteBuilder:
    """Finds the routes of each service."""

    name = NAME

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings

    def build(self, view: TopologyView, service: ServiceNode) -> Addition | None:
        """Build the rules of the service's ports; None if no route names it."""
        tables = TableBuilder(view, service, self._settings)
        if not tables.has_routes:
            return None
        attachments = tables.build_attachments()
        return Addition(
            value=group_attachments(attachments),
            rules=tables.build_rules(),
            side_backends=tables.build_sides(),
            traffic_types=tables.build_traffic_types(),
            objects=tables.list_objects(attachments),
            notices=tables.list_notices(attachments),
        )


class ControllerHalf:
    """What the controller loads."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings

    @hookimpl
    def maesh_resource_kinds(self) -> Sequence[ResourceKind]:
        """Watch routes and grants."""
        return KINDS

    @hookimpl
    def maesh_topology_builders(self) -> Sequence[TopologyBuilder]:
        """Return the builder that attaches routes, and the one that compares them with splits."""
        return [RouteBuilder(self._settings), SplitNoticeBuilder()]

    @hookimpl
    def maesh_optional_sections(self) -> Sequence[OptionalSection]:
        """Ask for the namespaces of all clients, so that a Host without a dot means a Service of the client's own."""
        return [CLIENT_NAMESPACES] if self._settings.client_namespaces == "all" else []

    @hookimpl
    def maesh_policy_checkers(self) -> Sequence[PolicyChecker]:
        """Return what `maesh check` reports about routes."""
        from maesh_gateway.policy import RoutePolicyChecker  # only for this command

        return [RoutePolicyChecker()]

    @hookimpl
    def maesh_object_checkers(self) -> Sequence[ObjectChecker]:
        """Return the checkers for routes that concern no service."""
        return [RouteChecker(type_) for type_ in ROUTE_TYPES]

    @hookimpl
    def maesh_status_builders(self) -> Sequence[StatusBuilder]:
        """Return the builders of the statuses of routes."""
        return [RouteStatusBuilder(type_) for type_ in ROUTE_TYPES]
