"""The hooks for objects' statuses, and the interface of their builders."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Resource
from maesh_core.model.topology import ServiceNode
from maesh_core.plugin_system.hookspecs.markers import hookspec
from maesh_core.plugin_system.interfaces.views import TopologyView

# --- status ----------------------------------------------------------------------------------------------------------

CONTROLLER_NAME: Final = "maesh.containo.us/mesh"
"""The value of `controllerName` in the entries of statuses that are the mesh's."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The mesh's entries in a list of an object's `status`; those of other controllers are kept.

    Each entry has `controllerName`, which is `CONTROLLER_NAME`, and `conditions`, each with a `type` and a `status`.
    The controller adds `lastTransitionTime` to the conditions that it writes.
    """

    entries: tuple[Mapping[str, Any], ...]


class StatusBuilder(Protocol):
    """Builds the status of the objects of one kind, of which there can be only one builder."""

    page: str
    """The statuses are served under `/api/status/PAGE`; several builders may have the same page."""
    field: str
    """The list in `status` that has the entries, such as `parents`."""

    @property
    def condition_types(self) -> tuple[str, ...]:
        """The types of all conditions that it can set: one that it leaves out is removed, and other types are kept."""

    @property
    def type(self) -> type[Resource]:
        """The class of the objects."""

    def build_status(
        self, view: TopologyView, resource: Any, services: Mapping[ObjectKey, ServiceNode]
    ) -> Status | None:
        """Build the status of one object, which may have `faults`; pure. None means no status of the mesh.

        `services` are those whose `Addition.objects` contain the object. Called again when the object, something that
        it read, or one of these services changes. If it raises, the object keeps its last status.
        """


class StatusSpecs(Protocol):
    """Hooks that report on objects."""

    @hookspec
    def maesh_status_builders(self) -> Sequence[StatusBuilder]:
        """Return builders of objects' statuses. Controller; once, at start; raising stops the start."""
