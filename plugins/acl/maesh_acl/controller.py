"""The controller's half: finds which clients may reach each service, and builds its middleware's settings."""

import logging
from collections.abc import Mapping, Sequence

import msgspec
from maesh_smi.checking import GroupChecker

from maesh_acl import AccessSettings, AclSettings
from maesh_acl.denials.gathering import DenialPage
from maesh_acl.granting.checking import TargetChecker
from maesh_acl.granting.conditions import AuditCondition
from maesh_acl.granting.destinations import OUTSIDE_ACCOUNT, check_outside_account
from maesh_acl.granting.explaining import explain_access
from maesh_acl.granting.grants import GrantFinder
from maesh_acl.granting.modes import MODE, read_mode
from maesh_acl.kinds import KINDS
from maesh_acl.suggesting.page import SuggestionPage
from maesh_core.plugin import (
    NAMESPACES,
    Addition,
    ApiPage,
    ConditionChecker,
    ControllerNode,
    ControllerService,
    MiddlewareBuilder,
    ObjectChecker,
    PolicyChecker,
    Question,
    ResourceKind,
    ServiceNode,
    Stage,
    TopologyBuilder,
    TopologyView,
    Verdict,
    hookimpl,
)

_logger = logging.getLogger(__name__)


class GrantBuilder:
    """Finds the grants of each service after its branches are known."""

    name = "acl"
    is_last = True

    def __init__(self, settings: AccessSettings) -> None:
        self._settings = settings

    def build(self, view: TopologyView, service: ServiceNode) -> Addition:
        """Find which clients may reach the service. Never None, because a missing result must not allow access."""
        finder = GrantFinder(view, service, self._settings)
        settings = finder.build_settings()
        return Addition(
            value=settings,
            pods=finder.sources.list_pods(),
            sections={"serviceTrafficTargets": finder.shown},
            objects=finder.list_objects(),
            notices=tuple(dict.fromkeys(finder.notices)),
        )


class AclBuilder:
    """Adds access control to every service, regardless of its annotations."""

    kind = "acl"
    stage = Stage.ADMISSION
    annotations: tuple[str, ...] = (MODE, OUTSIDE_ACCOUNT)
    closed_status = 403
    has_stream_annotations = True

    def build_settings(self, annotations: Mapping[str, str], service: ServiceNode) -> AclSettings:
        """Return the settings that were found for the service; without them, no client is allowed.

        Raises ConfigurationError for an annotation with an invalid value.
        """
        read_mode(annotations)
        check_outside_account(annotations.get(OUTSIDE_ACCOUNT))
        found = service.additions.get("acl")
        return _select(found, service.traffic_type) if isinstance(found, AclSettings) else AclSettings()

    def describe(self, settings: Mapping[str, object]) -> Sequence[str]:
        """Describe nothing: what it does depends on the client, and `explain` says it."""
        return ()

    def explain(self, settings: Mapping[str, object], question: Question) -> Verdict:
        """Explain whether a service's access control allows a client, and by which targets."""
        return explain_access(msgspec.convert(settings, AclSettings), question)


def _select(found: AclSettings, traffic_type: str | None) -> AclSettings:
    """Select the settings of a traffic type: UDP has its own ones if its destinations have the names of others."""
    destinations = found.destinations
    if traffic_type == "udp" and not isinstance(found.datagrams, msgspec.UnsetType):
        destinations = found.datagrams
    return AclSettings(
        destinations=destinations, traffic_type=msgspec.UNSET if traffic_type in (None, "http") else traffic_type
    )


class ControllerHalf:
    """What the controller loads."""

    def __init__(self, settings: AccessSettings) -> None:
        self._settings = settings
        self._denials: DenialPage | None = None

    def _find_denials(self, controller: ControllerNode) -> DenialPage:
        """Return the one page of denials, which is also a service; two hooks return it."""
        if self._denials is None:
            self._denials = DenialPage(controller)
        return self._denials

    @hookimpl
    def maesh_resource_kinds(self) -> Sequence[ResourceKind]:
        """Watch TrafficTargets, the routes that they name, and Namespaces if their annotations have an effect."""
        return KINDS if self._settings.audit_by_annotation == "none" else (*KINDS, NAMESPACES)

    @hookimpl
    def maesh_topology_builders(self) -> Sequence[TopologyBuilder]:
        """Return the builder that finds grants."""
        return [GrantBuilder(self._settings)]

    @hookimpl
    def maesh_policy_checkers(self) -> Sequence[PolicyChecker]:
        """Return what `maesh check` reports about access."""
        from maesh_smi.policy import GroupPolicyChecker

        from maesh_acl.granting.policy import AccessPolicyChecker  # only for this command

        return [AccessPolicyChecker(self._settings), GroupPolicyChecker()]

    @hookimpl
    def maesh_object_checkers(self) -> Sequence[ObjectChecker]:
        """Return the checkers for targets that grant nothing and invalid route groups."""
        return [TargetChecker(), GroupChecker()]

    @hookimpl
    def maesh_api_pages(self, controller: ControllerNode) -> Sequence[ApiPage]:
        """Return the page of the denials of all proxies, and that of the rules that would allow them."""
        if self._settings.mode == "audit":
            _logger.warning("access control is in audit mode: requests that no rule allows pass, and are reported")
        denials = self._find_denials(controller)
        return [denials, SuggestionPage(controller, denials)]

    @hookimpl
    def maesh_controller_services(self, controller: ControllerNode) -> Sequence[ControllerService]:
        """Return what keeps the reports of proxies, so that they survive a restart of a proxy."""
        return [self._find_denials(controller)]

    @hookimpl
    def maesh_mesh_conditions(self, controller: ControllerNode) -> Sequence[ConditionChecker]:
        """Return what says where audit mode denies nothing."""
        return [AuditCondition(controller, self._settings)]

    @hookimpl
    def maesh_middleware_builders(self) -> Sequence[MiddlewareBuilder]:
        """Return the middleware's builder."""
        return [AclBuilder()]
