"""The hooks for what is watched in the cluster, and the interface of sources of events."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from maesh_core.model.events import Event
from maesh_core.model.resources import ResourceKind
from maesh_core.plugin_system.hookspecs.markers import hookspec

# --- discovery -------------------------------------------------------------------------------------------------------


class Source(Protocol):
    """A source of events that says which objects exist."""

    name: str

    def watch_events(self, kinds: Sequence[ResourceKind]) -> AsyncIterator[Sequence[Event]]:
        """Yield batches of events about the objects of these kinds, without end.

        For each kind, the first event is a `Replaced`; these may be in one batch or in several. If a source raises,
        the controller starts it again after a pause, and keeps the objects that it has reported.
        """


class DiscoverySpecs(Protocol):
    """Hooks that declare what is watched, and where."""

    @hookspec
    def maesh_resource_kinds(self) -> Sequence[ResourceKind]:
        """Return kinds of objects to watch. Controller; once, at start; raising stops the start."""

    @hookspec
    def maesh_sources(self) -> Sequence[Source]:
        """Return sources of events besides the core's own. Controller; once, at start; raising stops the start."""
