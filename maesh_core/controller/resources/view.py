"""Views record reads of a snapshot: they decide when a build is repeated.

Takes a snapshot; returns objects, and the set of reads. Reads of absent objects are recorded too, so that their
appearance repeats the build. Must not change the snapshot.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar

from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Resource

ResourceT = TypeVar("ResourceT", bound=Resource)


class ObjectRead(NamedTuple):
    """A read of one object, whether or not it exists."""

    type: type[Resource]
    key: ObjectKey


class IndexRead(NamedTuple):
    """A read of all objects under one value of an index."""

    type: type[Resource]
    index_name: str
    value: str | ObjectKey


class VersionRead(NamedTuple):
    """A new version of an object in which nothing differs that the mesh reads, such as after a write of its status.

    No view records it: it repeats no build. Its order of fields keeps it distinct from an `ObjectRead`.
    """

    key: ObjectKey
    type: type[Resource]


Read = ObjectRead | IndexRead | VersionRead


class Readable(Protocol):
    """The methods that a view uses of a snapshot."""

    def get(self, type_: type[ResourceT], key: ObjectKey) -> ResourceT | None:
        """Read one object, or None."""

    def find(self, type_: type[ResourceT], index: str, value: str | ObjectKey) -> Sequence[ResourceT]:
        """Read the objects under a value of an index, sorted by key."""


class RecordingView:
    """An `interfaces.View` that records its `reads`. It shows the current snapshot at each read."""

    __slots__ = ("_source", "reads")

    def __init__(self, source: Readable) -> None:
        self._source = source
        self.reads: set[Read] = set()

    def __repr__(self) -> str:
        return f"<RecordingView {len(self.reads)} reads>"

    def get(self, type_: type[ResourceT], key: ObjectKey) -> ResourceT | None:
        """Read one object, or None."""
        self.reads.add(ObjectRead(type_, ObjectKey(*key)))
        return self._source.get(type_, key)

    def find(self, type_: type[ResourceT], index: str, value: str | ObjectKey) -> Sequence[ResourceT]:
        """Read the objects under a value of an index, sorted by key. Raises PluginError if there is no such index."""
        self.reads.add(IndexRead(type_, index, value))
        return self._source.find(type_, index, value)
