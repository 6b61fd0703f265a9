"""The hooks for `maesh check`, for the controller's API, and for tasks that run in the controller."""

from collections.abc import Sequence
from typing import Protocol

from maesh_core.plugin_system.certifiers import ApiCertifier
from maesh_core.plugin_system.conditions import ConditionChecker
from maesh_core.plugin_system.controllers import ControllerNode, ControllerService
from maesh_core.plugin_system.hookspecs.markers import hookspec
from maesh_core.plugin_system.pages import ApiPage
from maesh_core.plugin_system.policy_checks import PolicyChecker

# --- policy ----------------------------------------------------------------------------------------------------------


class PolicySpecs(Protocol):
    """Hooks for `maesh check`."""

    @hookspec
    def maesh_policy_checkers(self) -> Sequence[PolicyChecker]:
        """Return checkers of the whole policy. `maesh check`; once; raising ends the command."""


# --- pages -----------------------------------------------------------------------------------------------------------


class PageSpecs(Protocol):
    """Hooks that add to the controller's API."""

    @hookspec
    def maesh_api_pages(self, controller: ControllerNode) -> Sequence[ApiPage]:
        """Return pages of the controller's API. Controller; once, at start; raising stops the start."""

    @hookspec
    def maesh_api_certifiers(self, controller: ControllerNode) -> Sequence[ApiCertifier]:
        """Return what protects the controller's API. Controller; once, at start; raising stops the start."""


# --- conditions ------------------------------------------------------------------------------------------------------


class ConditionSpecs(Protocol):
    """Hooks that say what is wrong with the mesh as a whole."""

    @hookspec
    def maesh_mesh_conditions(self, controller: ControllerNode) -> Sequence[ConditionChecker]:
        """Return checkers of conditions of the mesh. Controller; once, at start; raising stops the start."""


# --- controller services ---------------------------------------------------------------------------------------------


class ServiceSpecs(Protocol):
    """Hooks for tasks that run in the controller."""

    @hookspec
    def maesh_controller_services(self, controller: ControllerNode) -> Sequence[ControllerService]:
        """Return tasks that run as long as the controller. Controller; once, at start; raising stops the start."""
