"""The controller's half: finds for every service who may reach it, and writes that into its middleware."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from maesh_smi.checking import GroupChecker

from maesh_acl import AccessSettings, AclSettings
from maesh_acl.checking import TargetChecker
from maesh_acl.explaining import explain_access
from maesh_acl.grants import GrantFinder
from maesh_acl.kinds import KINDS
from maesh_core.plugin import (
    Addition,
    MiddlewareBuilder,
    ObjectChecker,
    Question,
    ResourceKind,
    ServiceNode,
    Stage,
    TopologyBuilder,
    TopologyView,
    Verdict,
    hookimpl,
)


class GrantBuilder:
    """Finds the grants of each service, when its branches are known."""

    name = "acl"
    is_last = True

    def __init__(self, settings: AccessSettings) -> None:
        self._settings = settings

    def build(self, view: TopologyView, service: ServiceNode) -> Addition:
        """Find who may reach the service; never None, since silence must not open anything."""
        finder = GrantFinder(view, service, self._settings)
        settings = finder.build_settings()
        return Addition(
            value=settings,
            pods=finder.list_sources(),
            sections={"serviceTrafficTargets": finder.shown},
            objects=finder.list_objects(),
            notices=tuple(dict.fromkeys(finder.notices)),
        )


class AclBuilder:
    """Gives every service its access control, whatever it says of itself."""

    kind = "acl"
    stage = Stage.ADMISSION
    annotations: tuple[str, ...] = ()
    closed_status = 403

    def build_settings(self, annotations: Mapping[str, str], service: ServiceNode) -> Mapping[str, Any]:
        """Give what was found for the service; without it nobody may come in."""
        found = service.additions.get("acl")
        settings = found if isinstance(found, AclSettings) else AclSettings()
        built: Mapping[str, Any] = msgspec.to_builtins(settings)
        return built

    def explain(self, settings: Mapping[str, Any], question: Question) -> Verdict:
        """Say whom a service's access control would let in, and by which targets."""
        return explain_access(msgspec.convert(settings, AclSettings), question)


class ControllerHalf:
    """What the controller loads."""

    def __init__(self, settings: AccessSettings) -> None:
        self._settings = settings

    @hookimpl
    def maesh_resource_kinds(self) -> Sequence[ResourceKind]:
        """Watch TrafficTargets, and the routes that they name."""
        return KINDS

    @hookimpl
    def maesh_topology_builders(self) -> Sequence[TopologyBuilder]:
        """Give what finds grants."""
        return [GrantBuilder(self._settings)]

    @hookimpl
    def maesh_object_checkers(self) -> Sequence[ObjectChecker]:
        """Give what finds targets that grant nothing, and route groups that are bad."""
        return [TargetChecker(), GroupChecker()]

    @hookimpl
    def maesh_middleware_builders(self) -> Sequence[MiddlewareBuilder]:
        """Give the middleware of every service."""
        return [AclBuilder()]
