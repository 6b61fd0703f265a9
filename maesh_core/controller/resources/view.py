"""Reads of a snapshot, recorded: what a build has read decides when it runs again.

Takes a snapshot, gives objects and the set of what was asked for. Absent objects are recorded like present ones, so
that their appearance re-runs the reader. Must not change the snapshot.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar

from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Resource

ResourceT = TypeVar("ResourceT", bound=Resource)


class ObjectRead(NamedTuple):
    """One object was asked for, there or not."""

    type: type[Resource]
    key: ObjectKey


class IndexRead(NamedTuple):
    """All objects under one value of an index were asked for."""

    type: type[Resource]
    index_name: str
    value: str | ObjectKey


Read = ObjectRead | IndexRead


class Readable(Protocol):
    """What a view reads from."""

    def get(self, type_: type[ResourceT], key: ObjectKey) -> ResourceT | None:
        """Read one object, or None."""

    def find(self, type_: type[ResourceT], index: str, value: str | ObjectKey) -> Sequence[ResourceT]:
        """Read the objects under a value of an index, sorted by key."""


class RecordingView:
    """A `interfaces.View` whose `reads` tell what it was asked. Shows the snapshot as it is at each read."""

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
        """Read the objects under a value of an index, sorted by key. Raises PluginError when there is no such index."""
        self.reads.add(IndexRead(type_, index, value))
        return self._source.find(type_, index, value)
