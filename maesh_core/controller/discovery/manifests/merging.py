"""Merges the contents of files into one set of objects, and turns changes into events.

Takes the current contents of each file; returns Applied, Deleted and Problem events for the actual changes. If several
documents define one object, the first counts, ordered by path and then by place in the file. Pure: no files, no clock.
"""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from maesh_core.controller.discovery.documents.parsing import LoadedResource, Manifest
from maesh_core.errors import ManifestError
from maesh_core.model.events import Applied, Deleted, Event, Problem, Replaced
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Resource, ResourceKind

Identity = tuple[type[Resource], ObjectKey]


class MergedManifests:
    """The merged contents of all files. `collect_events` returns the changes since its last call."""

    __slots__ = (
        *("_changed", "_claims", "_contents", "_duplicates", "_emitted", "_emitted_problems", "_file_problems"),
        *("_notices", "_whole"),
    )

    def __init__(self) -> None:
        self._contents: dict[str, tuple[LoadedResource, ...]] = {}
        self._whole: set[str] = set()
        """Files whose contents had no errors."""
        self._claims: dict[Identity, dict[str, list[LoadedResource]]] = {}
        """By object: the files that define it, and where."""
        self._duplicates: dict[Identity, dict[str, Problem]] = {}
        """By object: the problems of its duplicates, by origin."""
        self._file_problems: dict[str, dict[str, Problem]] = {}
        self._notices: dict[str, tuple[Problem, ...]] = {}
        self._emitted: dict[Identity, Resource] = {}
        self._emitted_problems: dict[str, Problem] = {}
        self._changed: set[Identity] = set()

    def __repr__(self) -> str:
        return f"<MergedManifests {len(self._contents)} files {len(self._emitted)} objects>"

    def set_manifest(self, path: str, manifest: Manifest) -> None:
        """Set the contents of a file. A file with errors keeps its previous objects, if it was once without errors."""
        problems: dict[str, Problem] = {}
        for error in (*manifest.errors, *manifest.faults):
            problems[error.origin] = _join(problems.get(error.origin), _build_problem(error))
        self._set_problems(path, problems)
        self.set_notices(path, [_build_problem(notice, is_notice=True) for notice in manifest.notices])
        before = self._contents.get(path, ())
        if not manifest.errors:
            self._whole.add(path)
            self._set_content(path, manifest.resources)
        elif not before:
            self._set_content(path, manifest.resources)
        elif path not in self._whole:
            # It never was without errors: its valid documents count; the malformed ones may be the missing objects.
            found = {_identify(item) for item in manifest.resources}
            self._set_content(path, (*manifest.resources, *(item for item in before if _identify(item) not in found)))

    def remove(self, path: str) -> None:
        """Remove a file with its problems."""
        self._set_problems(path, {})
        self.set_notices(path, ())
        self._whole.discard(path)
        self._set_content(path, ())

    def set_problem(self, path: str, origin: str, text: str | None) -> None:
        """Set the problem of a path outside any file's contents; None withdraws it."""
        self._set_problems(path, {} if text is None else {origin: Problem(origin, text)})

    def set_notices(self, path: str, notices: Sequence[Problem]) -> None:
        """Replace the notices about a path: skipped documents, or that it has none."""
        if notices:
            self._notices[path] = tuple(notices)
        else:
            self._notices.pop(path, None)

    def has_content(self, path: str) -> bool:
        """Whether there are objects of this file."""
        return path in self._contents

    def is_useless(self, path: str) -> bool:
        """Whether a file has neither objects nor errors."""
        return path not in self._contents and path not in self._file_problems

    def collect_lists(self, kinds: Iterable[ResourceKind]) -> list[Event]:
        """Return everything: a list for each kind, then the problems."""
        self._resolve_changed()
        lists: dict[type[Resource], list[Resource]] = {kind.type: [] for kind in kinds}
        for (type_, _), resource in sorted(self._emitted.items(), key=lambda item: item[0][1]):
            lists[type_].append(resource)
        replaced: list[Event] = [Replaced(type_, resources) for type_, resources in lists.items()]
        return [*replaced, *self._collect_problems()]

    def list_origins(self) -> dict[Identity, str]:
        """List where the objects are defined, as `path document 2 line 10`."""
        return {
            identity: claims[path][0].origin
            for identity, claims in self._claims.items()
            if claims and (path := min(claims))
        }

    def collect_events(self) -> list[Event]:
        """Return the changes since the last call: objects first, sorted, then problems."""
        return [*self._resolve_changed(), *self._collect_problems()]

    def _set_problems(self, path: str, problems: dict[str, Problem]) -> None:
        if problems:
            self._file_problems[path] = problems
        else:
            self._file_problems.pop(path, None)

    def _set_content(self, path: str, resources: Sequence[LoadedResource]) -> None:
        for item in self._contents.pop(path, ()):
            identity = _identify(item)
            claims = self._claims.get(identity)
            if claims is not None:
                claims.pop(path, None)
            self._changed.add(identity)
        for item in resources:
            identity = _identify(item)
            self._claims.setdefault(identity, {}).setdefault(path, []).append(item)
            self._changed.add(identity)
        if resources:
            self._contents[path] = tuple(resources)

    def _resolve_changed(self) -> list[Event]:
        """Choose again which document counts, for the objects whose documents changed."""
        events: list[Event] = []
        for identity in sorted(self._changed, key=lambda one: (one[0].__name__, one[1])):
            claims = self._claims.get(identity)
            documents = [item for path in sorted(claims) for item in claims[path]] if claims else []
            events.extend(self._emit(identity, documents))
            self._set_duplicates(identity, documents)
        self._changed.clear()
        return events

    def _emit(self, identity: Identity, documents: Sequence[LoadedResource]) -> Iterator[Event]:
        before = self._emitted.get(identity)
        if not documents:
            self._claims.pop(identity, None)
            if before is not None:
                del self._emitted[identity]
                yield Deleted(*identity)
        elif before != documents[0].resource:
            self._emitted[identity] = documents[0].resource
            yield Applied(documents[0].resource)

    def _set_duplicates(self, identity: Identity, documents: Sequence[LoadedResource]) -> None:
        self._duplicates.pop(identity, None)
        if len(documents) > 1:
            first = documents[0]
            text = f"{first.kind.label} {identity[1]} is in {first.origin} already; that one is used"
            self._duplicates[identity] = {
                item.origin: Problem(
                    item.origin, f"{text}, not the one in {item.origin}", first.kind.label, identity[1]
                )
                for item in documents[1:]
            }

    def _collect_problems(self) -> Iterator[Problem]:
        problems: dict[str, Problem] = {}
        for reported in (*self._file_problems.values(), *self._duplicates.values()):
            for origin, problem in reported.items():
                problems[origin] = _join(problems.get(origin), problem)
        for notice in (each for notices in self._notices.values() for each in notices):
            problems.setdefault(notice.origin, notice)
        for origin in sorted(self._emitted_problems.keys() - problems.keys()):
            yield Problem(origin, None)
        for origin, problem in problems.items():
            if self._emitted_problems.get(origin) != problem:
                yield problem
        self._emitted_problems = problems


def _identify(item: LoadedResource) -> Identity:
    return item.kind.type, item.resource.key


def _build_problem(error: ManifestError, *, is_notice: bool = False) -> Problem:
    key = None if error.key is None else ObjectKey(*error.key)
    return Problem(error.origin, error.text, error.kind, key, is_notice=is_notice)


def _join(first: Problem | None, second: Problem) -> Problem:
    if first is None:
        return second
    return msgspec.structs.replace(first, text=f"{first.text}; {second.text}")
