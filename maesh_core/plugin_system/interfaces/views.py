"""The views of the cluster's objects that builders and checkers of plugins read."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Resource
from maesh_core.model.topology import ServiceNode

# --- topology --------------------------------------------------------------------------------------------------------

ResourceT = TypeVar("ResourceT", bound=Resource)


class View(Protocol):
    """The cluster's objects at one moment. Reads are recorded: the reader runs again when what it read changes."""

    def get(self, type_: type[ResourceT], key: ObjectKey) -> ResourceT | None:
        """Read one object, or None."""

    def find(self, type_: type[ResourceT], index: str, value: str | ObjectKey) -> Sequence[ResourceT]:
        """Read the objects with this value in an index of their kind, sorted by key."""


class TopologyView(View, Protocol):
    """The view for topology builders and object checkers."""

    def build_service(self, key: ObjectKey) -> ServiceNode | None:
        """Build another service's node, without additions of plugins; None if there is no such service."""

    def list_services(self, namespace: str) -> Sequence[ObjectKey]:
        """List the services of a namespace, sorted, including those that the mesh ignores.

        The caller runs again whenever any service of the namespace changes, so call this only to describe an error.
        """

    def has_filter(self, name: str) -> bool:
        """Return whether an enabled plugin builds the filter of this name (`FilteringBuilder`)."""
