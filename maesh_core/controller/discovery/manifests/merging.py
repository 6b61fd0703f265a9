"""The files' contents become one set of objects, and changes of it become events.

Takes what each file holds now, gives Applied, Deleted and Problem events for what really changed. Of several
documents that are one object the first stays, by path and then by place in the file. Pure: no files, no clock.
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
    """What all files hold together. `collect_events` tells what changed since it was last asked."""

    __slots__ = (
        *("_claims", "_contents", "_file_problems", "_notices", "_told", "_told_problems", "_touched", "_twins"),
        "_whole",
    )

    def __init__(self) -> None:
        self._contents: dict[str, tuple[LoadedResource, ...]] = {}
        self._whole: set[str] = set()
        """Files whose content came without errors."""
        self._claims: dict[Identity, dict[str, list[LoadedResource]]] = {}
        """Object to the files that hold it, and where."""
        self._twins: dict[Identity, dict[str, Problem]] = {}
        """Object to the problems of its being there twice, by origin."""
        self._file_problems: dict[str, dict[str, Problem]] = {}
        self._notices: dict[str, tuple[Problem, ...]] = {}
        self._told: dict[Identity, Resource] = {}
        self._told_problems: dict[str, Problem] = {}
        self._touched: set[Identity] = set()

    def __repr__(self) -> str:
        return f"<MergedManifests {len(self._contents)} files {len(self._told)} objects>"

    def set_manifest(self, path: str, manifest: Manifest) -> None:
        """Take what a file holds. One with errors keeps what it held, as far as that was good."""
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
            # It was never good as a whole: good documents count, and the broken ones may be those that are missing.
            found = {_identify(item) for item in manifest.resources}
            self._set_content(path, (*manifest.resources, *(item for item in before if _identify(item) not in found)))

    def remove(self, path: str) -> None:
        """Take that a file is gone, with its problems."""
        self._set_problems(path, {})
        self.set_notices(path, ())
        self._whole.discard(path)
        self._set_content(path, ())

    def set_problem(self, path: str, origin: str, text: str | None) -> None:
        """Take a problem with a path that is not in a file's content; None takes it back."""
        self._set_problems(path, {} if text is None else {origin: Problem(origin, text)})

    def set_notices(self, path: str, notices: Sequence[Problem]) -> None:
        """Replace the notices about a path: documents that are skipped, or that it holds none."""
        if notices:
            self._notices[path] = tuple(notices)
        else:
            self._notices.pop(path, None)

    def has_content(self, path: str) -> bool:
        """Whether objects of this file are held."""
        return path in self._contents

    def is_useless(self, path: str) -> bool:
        """Whether a file has neither objects nor errors."""
        return path not in self._contents and path not in self._file_problems

    def collect_lists(self, kinds: Iterable[ResourceKind]) -> list[Event]:
        """Tell everything: a list for each kind, then the problems."""
        self._settle_touched()
        lists: dict[type[Resource], list[Resource]] = {kind.type: [] for kind in kinds}
        for (type_, _), resource in sorted(self._told.items(), key=lambda item: item[0][1]):
            lists[type_].append(resource)
        replaced: list[Event] = [Replaced(type_, resources) for type_, resources in lists.items()]
        return [*replaced, *self._collect_problems()]

    def collect_events(self) -> list[Event]:
        """Tell what changed since the last call: objects first, sorted, then problems."""
        return [*self._settle_touched(), *self._collect_problems()]

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
            self._touched.add(identity)
        for item in resources:
            identity = _identify(item)
            self._claims.setdefault(identity, {}).setdefault(path, []).append(item)
            self._touched.add(identity)
        if resources:
            self._contents[path] = tuple(resources)

    def _settle_touched(self) -> list[Event]:
        """Decide anew which document is believed, for the objects whose documents changed."""
        events: list[Event] = []
        for identity in sorted(self._touched, key=lambda one: (one[0].__name__, one[1])):
            claims = self._claims.get(identity)
            documents = [item for path in sorted(claims) for item in claims[path]] if claims else []
            events.extend(self._tell(identity, documents))
            self._set_twins(identity, documents)
        self._touched.clear()
        return events

    def _tell(self, identity: Identity, documents: Sequence[LoadedResource]) -> Iterator[Event]:
        before = self._told.get(identity)
        if not documents:
            self._claims.pop(identity, None)
            if before is not None:
                del self._told[identity]
                yield Deleted(*identity)
        elif before != documents[0].resource:
            self._told[identity] = documents[0].resource
            yield Applied(documents[0].resource)

    def _set_twins(self, identity: Identity, documents: Sequence[LoadedResource]) -> None:
        self._twins.pop(identity, None)
        if len(documents) > 1:
            first = documents[0]
            text = f"{first.kind.name} {identity[1]} is in {first.origin} already; that one is used"
            self._twins[identity] = {
                item.origin: Problem(item.origin, f"{text}, not the one in {item.origin}", first.kind.name, identity[1])
                for item in documents[1:]
            }

    def _collect_problems(self) -> Iterator[Problem]:
        problems: dict[str, Problem] = {}
        for told in (*self._file_problems.values(), *self._twins.values()):
            for origin, problem in told.items():
                problems[origin] = _join(problems.get(origin), problem)
        for notice in (each for notices in self._notices.values() for each in notices):
            problems.setdefault(notice.origin, notice)
        for origin in sorted(self._told_problems.keys() - problems.keys()):
            yield Problem(origin, None)
        for origin, problem in problems.items():
            if self._told_problems.get(origin) != problem:
                yield problem
        self._told_problems = problems


def _identify(item: LoadedResource) -> Identity:
    return item.kind.type, item.resource.key


def _build_problem(error: ManifestError, *, is_notice: bool = False) -> Problem:
    key = None if error.key is None else ObjectKey(*error.key)
    return Problem(error.origin, error.text, error.kind, key, is_notice=is_notice)


def _join(first: Problem | None, second: Problem) -> Problem:
    if first is None:
        return second
    return msgspec.structs.replace(first, text=f"{first.text}; {second.text}")
