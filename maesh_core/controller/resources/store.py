"""All objects of one kind: who told of them, and what they are found by.

Takes single changes, gives the reads that each affects, and the objects. Of two sources that tell of one object the
first is believed until it takes it back. Must not know of other kinds.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

from maesh_core.controller.resources.view import IndexRead, ObjectRead, Read
from maesh_core.errors import PluginError
from maesh_core.model.events import Problem
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Resource, ResourceKind

IndexFunction = Callable[[Resource], Iterable[str | ObjectKey]]


class KindStore:
    """The objects of one kind. `problems` is shared with the snapshot and keyed by origin."""

    __slots__ = ("_contenders", "_indexes", "_kind", "_objects", "_owners", "_problems")

    def __init__(self, kind: ResourceKind, problems: dict[str, Problem]) -> None:
        self._kind = kind
        self._problems = problems
        self._objects: dict[ObjectKey, Resource] = {}
        self._owners: dict[ObjectKey, str] = {}
        self._contenders: dict[ObjectKey, dict[str, Resource]] = {}
        self._indexes = {name: _Index(function) for name, function in kind.indexes.items()}

    def __repr__(self) -> str:
        return f"<KindStore {self._kind.name} {len(self._objects)} objects>"

    def get(self, key: ObjectKey) -> Resource | None:
        """Read one object, or None."""
        return self._objects.get(key)

    def find_source(self, key: ObjectKey) -> str:
        """Name the source that is believed about an object; empty for none."""
        return self._owners.get(key, "")

    def find(self, index: str, value: str | ObjectKey) -> Sequence[Resource]:
        """Read the objects under a value, sorted by key. Raises PluginError when there is no such index."""
        found = self._indexes.get(index)
        if found is None:
            raise PluginError(f"kind {self._kind.name} has no index {index!r}")
        if not found.is_built:
            found.is_built = True
            for key, resource in self._objects.items():
                self._index(index, key, resource)
        return found.find(value, self._objects)

    def search(self, index: str, value: str | ObjectKey) -> Sequence[Resource]:
        """Read as `find` does, but look at every object where the index is not built: for one question, not for many.

        An object that the index's function cannot read is not found. Raises PluginError when there is no such index.
        """
        found = self._indexes.get(index)
        if found is None or found.is_built:
            return self.find(index, value)
        return [self._objects[key] for key in sorted(found.search(value, self._objects))]

    def keys(self) -> Sequence[ObjectKey]:
        """Name all objects, sorted."""
        return sorted(self._objects)

    def apply(self, resource: Resource, source: str) -> Iterator[Read]:
        """Take an object as a source tells it."""
        key = resource.key
        owner = self._owners.get(key)
        if owner is None or owner == source:
            self._owners[key] = source
            yield from self._set(key, resource)
        else:
            self._contenders.setdefault(key, {})[source] = resource
            self._tell_contention(key)

    def delete(self, key: ObjectKey, source: str) -> Iterator[Read]:
        """Take back an object; another source that tells of it too is believed now."""
        contenders = self._contenders.get(key, {})
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
        self._tell_contention(key)

    def replace(self, resources: Sequence[Resource], source: str) -> Iterator[Read]:
        """Take a source's whole list: what it told earlier and is not in it goes away."""
        told: dict[ObjectKey, Resource] = {}
        for resource in resources:
            told.setdefault(resource.key, resource)
        gone = [key for key, owner in self._owners.items() if owner == source and key not in told]
        gone += [key for key, others in self._contenders.items() if source in others and key not in told]
        for key in gone:
            yield from self.delete(key, source)
        for resource in told.values():
            yield from self.apply(resource, source)

    def _set(self, key: ObjectKey, resource: Resource | None) -> Iterator[Read]:
        if self._objects.get(key) == resource:
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
        """Put an object where an index has it now; give every value under which it stood or stands."""
        index = self._indexes[name]
        origin = f"{self._kind.name} {key} index {name}"
        self._problems.pop(origin, None)
        try:
            return index.move(key, resource)
        except Exception as error:  # a plugin's function sees any object; it may harm this one alone
            text = f"not found by index {name}: {type(error).__name__}: {error}"
            self._problems[origin] = Problem(origin, text, self._kind.name, key)
            return index.move(key, None)

    def _tell_contention(self, key: ObjectKey) -> None:
        origin = f"{self._kind.name} {key} sources"
        others = self._contenders.get(key)
        if others:
            owner = self._owners[key]
            text = f"{self._kind.name} {key} is told by {owner} and by {', '.join(sorted(others))}; {owner} is believed"
            self._problems[origin] = Problem(origin, text, self._kind.name, key)
        else:
            self._contenders.pop(key, None)
            self._problems.pop(origin, None)


class _Index:
    """Which keys stand under which value; the sorted objects of a value are kept until one of them changes.

    It is built when it is first asked: those of 100,000 pods are 190 MB, and without access control nobody asks.
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
        """Name the objects under a value, in no order, and keep nothing."""
        for key, resource in objects.items():
            with suppress(Exception):  # a plugin's function sees any object
                if value in self._function(resource):
                    yield key

    def move(self, key: ObjectKey, resource: Resource | None) -> frozenset[str | ObjectKey]:
        """Put an object where it stands now; give every value under which it stood or stands. May raise anything."""
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
