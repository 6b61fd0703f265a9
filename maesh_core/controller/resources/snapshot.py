"""The snapshot: the current objects of the cluster with their indexes, and the problems of discovery.

Takes batches of events; returns the reads that they affect, and views that record reads. An event that changes nothing
affects no read. Must not do I/O, nor check the objects.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar, cast

from maesh_core.controller.resources.store import KindStore
from maesh_core.controller.resources.view import Read, RecordingView
from maesh_core.errors import PluginError
from maesh_core.model.events import Applied, Deleted, Event, Problem
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Resource, ResourceKind

ResourceT = TypeVar("ResourceT", bound=Resource)


class Snapshot:
    """The objects of the given kinds. Raises PluginError if two kinds have the same type."""

    __slots__ = ("_problems", "_stores")

    def __init__(self, kinds: Iterable[ResourceKind]) -> None:
        self._problems: dict[str, Problem] = {}
        self._stores: dict[type[Resource], KindStore] = {}
        for kind in kinds:
            if kind.type in self._stores:
                raise PluginError(f"two kinds of resources decode to {kind.type.__name__}; one is {kind.name}")
            self._stores[kind.type] = KindStore(kind, self._problems)

    def __repr__(self) -> str:
        return f"<Snapshot {list(self._stores.values())} {len(self._problems)} problems>"

    @property
    def problems(self) -> Mapping[str, str]:
        """What could not be read or used: text by origin."""
        return {each.origin: each.text for each in self._problems.values() if each.text and not each.is_notice}

    @property
    def all_problems(self) -> Mapping[str, Problem]:
        """What could not be read or used, and what was ignored, by origin."""
        return MappingProxyType(self._problems)

    def find_source(self, type_: type[Resource], key: ObjectKey) -> str:
        """Find the source of an object; empty if there is none. Not recorded."""
        return self._store(type_).find_source(key)

    def apply(self, events: Iterable[Event], *, source: str) -> frozenset[Read]:
        """Apply a source's events, in order; return every read whose result may have changed."""
        affected: set[Read] = set()
        for event in events:
            affected.update(self._apply_event(event, source))
        return frozenset(affected)

    def count(self, type_: type[Resource]) -> int:
        """Count the objects of a type. Not recorded."""
        return len(self._store(type_))

    def keys(self, type_: type[Resource]) -> Sequence[ObjectKey]:
        """List the keys of all objects of a type, sorted. Not recorded."""
        return self._store(type_).keys()

    def copy(self, type_: type[Resource]) -> "Snapshot":
        """Copy the objects of one type: another thread may read the copy. For 100,000 objects it takes 1 ms."""
        copied = Snapshot(())
        copied._stores[type_] = self._store(type_).copy()
        return copied

    def view(self) -> RecordingView:
        """Create a view without recorded reads."""
        return RecordingView(self)

    def get(self, type_: type[ResourceT], key: ObjectKey) -> ResourceT | None:
        """Read one object, or None. Not recorded."""
        return cast("ResourceT | None", self._store(type_).get(key))

    def find(self, type_: type[ResourceT], index: str, value: str | ObjectKey) -> Sequence[ResourceT]:
        """Read the objects under a value of an index, sorted by key. Not recorded."""
        return cast("Sequence[ResourceT]", self._store(type_).find(index, value))

    def search(self, type_: type[ResourceT], index: str, value: str | ObjectKey) -> Sequence[ResourceT]:
        """Read as `find` does, without building the index, which would use memory for a single question."""
        return cast("Sequence[ResourceT]", self._store(type_).search(index, value))

    def _store(self, type_: type[Resource]) -> KindStore:
        store = self._stores.get(type_)
        if store is None:
            raise PluginError(f"nothing declares resources of type {type_.__name__}")
        return store

    def _apply_event(self, event: Event, source: str) -> Iterator[Read]:
        if isinstance(event, Problem):
            self._apply_problem(event)
            return iter(())
        type_ = type(event.resource) if isinstance(event, Applied) else event.type
        store = self._stores.get(type_)
        if store is None:
            origin = f"source {source} type {type_.__name__}"
            text = f"source {source} reports {type_.__name__}, which nothing declares"
            self._problems[origin] = Problem(origin, text)
            return iter(())
        if isinstance(event, Applied):
            return store.apply(event.resource, source)
        if isinstance(event, Deleted):
            return store.delete(event.key, source)
        return store.replace(event.resources, source)

    def _apply_problem(self, problem: Problem) -> None:
        if problem.text is None:
            self._problems.pop(problem.origin, None)
        else:
            self._problems[problem.origin] = problem
