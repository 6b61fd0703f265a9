"""The store of all objects of one kind: their sources and their indexes.

Takes single changes; returns the affected reads, and the objects. If two sources have the same object, that of the
first one is used until it is withdrawn. Must not know other kinds.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

from msgspec.structs import replace

from maesh_core.controller.resources.view import IndexRead, ObjectRead, Read, VersionRead
from maesh_core.errors import PluginError
from maesh_core.model.events import Problem
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Resource, ResourceKind

IndexFunction = Callable[[Resource], Iterable[str | ObjectKey]]


class KindStore:
    """The objects of one kind. `problems` is shared with the snapshot and keyed by origin."""

    __slots__ = ("_indexes", "_kind", "_objects", "_other_sources", "_owners", "_problems")

    def __init__(self, kind: ResourceKind, problems: dict[str, Problem]) -> None:
        self._kind = kind
        self._problems = problems
        self._objects: dict[ObjectKey, Resource] = {}
        self._owners: dict[ObjectKey, str] = {}
        self._other_sources: dict[ObjectKey, dict[str, Resource]] = {}
        self._indexes = {name: _Index(function) for name, function in kind.indexes.items()}

    def __repr__(self) -> str:
        return f"<KindStore {self._kind.label} {len(self._objects)} objects>"

    def __len__(self) -> int:
        return len(self._objects)

    def copy(self) -> "KindStore":
        """Copy the objects that are used, without sources and indexes: another thread may read the copy."""
        copied = KindStore(self._kind, {})
        copied._objects = self._objects.copy()
        return copied

    def get(self, key: ObjectKey) -> Resource | None:
        """Read one object, or None."""
        return self._objects.get(key)

    def find_source(self, key: ObjectKey) -> str:
        """Find the source whose object is used; empty if there is none."""
        return self._owners.get(key, "")

    def find(self, index: str, value: str | ObjectKey) -> Sequence[Resource]:
        """Read the objects under a value, sorted by key. Raises PluginError if there is no such index."""
        found = self._indexes.get(index)
        if found is None:
            raise PluginError(f"kind {self._kind.label} has no index {index!r}")
        if not found.is_built:
            found.is_built = True
            for key, resource in self._objects.items():
                self._index(index, key, resource)
        return found.find(value, self._objects)

    def search(self, index: str, value: str | ObjectKey) -> Sequence[Resource]:
        """Read as `find` does, but scan all objects if the index is not built: for a single question.

        An object on which the index's function fails is not found. Raises PluginError if there is no such index.
        """
        found = self._indexes.get(index)
        if found is None or found.is_built:
            return self.find(index, value)
        return [self._objects[key] for key in sorted(found.search(value, self._objects))]

    def keys(self) -> Sequence[ObjectKey]:
        """List the keys of all objects, sorted."""
        return sorted(self._objects)

    def apply(self, resource: Resource, source: str) -> Iterator[Read]:
        """Apply an object from a source."""
        key = resource.key
        owner = self._owners.get(key)
        if owner is None or owner == source:
            self._owners[key] = source
            yield from self._set(key, resource)
        else:
            self._other_sources.setdefault(key, {})[source] = resource
            self._report_conflict(key)

    def delete(self, key: ObjectKey, source: str) -> Iterator[Read]:
        """Withdraw an object; that of another source is used now, if there is one."""
        contenders = self._other_sources.get(key, {})
        if self._owners.get(key) == source:
            heir = next(iter(contenders), None)
            if heir is None:
                del self._owners[key]
                yield from self._set(key, None)
                return
            self._owners[key] = heir
            yield from self._set(key, contenders.pop(heir))
        else:
            contenders.pop(source, None)
        self._report_conflict(key)

    def replace(self, resources: Sequence[Resource], source: str) -> Iterator[Read]:
        """Apply a source's whole list: its earlier objects that are not in it are withdrawn."""
        told: dict[ObjectKey, Resource] = {}
        for resource in resources:
            told.setdefault(resource.key, resource)
        gone = [key for key, owner in self._owners.items() if owner == source and key not in told]
        gone += [key for key, others in self._other_sources.items() if source in others and key not in told]
        for key in gone:
            yield from self.delete(key, source)
        for resource in told.values():
            yield from self.apply(resource, source)

    def _set(self, key: ObjectKey, resource: Resource | None) -> Iterator[Read]:
        known = self._objects.get(key)
        if known == resource:
            return
        if resource is not None and self._kind.read is not None and _has_same_content(known, resource):
            self._objects[key] = resource
            for name, index in self._indexes.items():
                if index.is_built:  # it has the object itself
                    self._index(name, key, resource)
            yield VersionRead(key, self._kind.type)
            return
        if resource is None:
            del self._objects[key]
        else:
            self._objects[key] = resource
        yield ObjectRead(self._kind.type, key)
        for name, index in self._indexes.items():
            if index.is_built:
                for value in self._index(name, key, resource):
                    yield IndexRead(self._kind.type, name, value)

    def _index(self, name: str, key: ObjectKey, resource: Resource | None) -> Collection[str | ObjectKey]:
        """Update an index for an object; return every value under which it is or was listed."""
        index = self._indexes[name]
        origin = f"{self._kind.label} {key} index {name}"
        self._problems.pop(origin, None)
        try:
            return index.move(key, resource)
        except Exception as error:  # a plugin's function may fail on any object; only this one is affected
            text = f"not found by index {name}: {type(error).__name__}: {error}"
            self._problems[origin] = Problem(origin, text, self._kind.label, key)
            return index.move(key, None)

    def _report_conflict(self, key: ObjectKey) -> None:
        origin = f"{self._kind.label} {key} sources"
        others = self._other_sources.get(key)
        if others:
            owner = self._owners[key]
            names = ", ".join(sorted(others))
            text = f"{self._kind.label} {key} is reported by {owner} and by {names}; that of {owner} is used"
            self._problems[origin] = Problem(origin, text, self._kind.label, key)
        else:
            self._other_sources.pop(key, None)
            self._problems.pop(origin, None)


def _has_same_content(known: Resource | None, other: Resource) -> bool:
    """Whether an object differs from the known one only in its version."""
    if known is None:
        return False
    return replace(known, metadata=replace(known.metadata, resource_version=other.metadata.resource_version)) == other


class _Index:
    """The keys under each value; the sorted objects of a value are cached until one of them changes.

    It is built on its first use: for 100,000 pods it takes 190 MB, and is only needed for access control.
    """

    __slots__ = ("_function", "_keys", "_sorted", "_values", "is_built")

    def __init__(self, function: IndexFunction) -> None:
        self._function = function
        self.is_built = False
        self._keys: dict[str | ObjectKey, set[ObjectKey]] = {}
        self._values: dict[ObjectKey, frozenset[str | ObjectKey]] = {}
        self._sorted: dict[str | ObjectKey, tuple[Resource, ...]] = {}

    def find(self, value: str | ObjectKey, objects: Mapping[ObjectKey, Resource]) -> Sequence[Resource]:
        found = self._sorted.get(value)
        if found is None:
            keys = self._keys.get(value)
            if keys is None:
                return ()
            found = self._sorted[value] = tuple(objects[key] for key in sorted(keys))
        return found

    def search(self, value: str | ObjectKey, objects: Mapping[ObjectKey, Resource]) -> Iterator[ObjectKey]:
        """List the keys under a value, in no particular order, and cache nothing."""
        for key, resource in objects.items():
            with suppress(Exception):  # a plugin's function may fail on any object
                if value in self._function(resource):
                    yield key

    def move(self, key: ObjectKey, resource: Resource | None) -> frozenset[str | ObjectKey]:
        """Update the entries of an object; return every value under which it is or was listed. May raise anything."""
        after = frozenset(self._function(resource)) if resource is not None else frozenset()
        before = self._values.pop(key, frozenset())
        if after:
            self._values[key] = after
        for value in before - after:
            keys = self._keys[value]
            keys.discard(key)
            if not keys:
                del self._keys[value]
        for value in after - before:
            self._keys.setdefault(value, set()).add(key)
        affected = before | after
        for value in affected:
            self._sorted.pop(value, None)
        return affected
