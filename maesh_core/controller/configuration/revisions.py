"""The store of the whole mesh's configuration, with its revisions and the documents that proxies pull.

Takes the changed configurations of services. Stores every object encoded, with the revision that last changed it.
Returns the whole configuration, or the changes since a revision; the cost depends only on the changes. Does not
interpret the objects.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from maesh_core.model.configuration import ServiceConfiguration
from maesh_core.model.keys import ObjectKey, build_wire_path
from maesh_core.model.messages import RawSections, render_sections
from maesh_core.model.optional_sections import PROTOCOL_NOUNS, SECTION_FORMS

LOG_LIMIT_REVISIONS = 10_000
LOG_LIMIT_PATHS = 100_000
"""Limit of the change log, some megabytes. A proxy that is further behind gets the whole configuration."""


class ObjectPath(NamedTuple):
    """The place of an object in the document; `protocol` is the name of its section."""

    protocol: str
    noun: str
    key: str


EntryChanges = Mapping[ObjectPath, msgspec.Struct | str | None]
"""Entries that belong to no service, in sections of SECTION_FORMS; None removes one."""


class _Change(NamedTuple):
    """The paths that one revision changed, and whether each existed before it."""

    number: int
    paths: Mapping[ObjectPath, bool]


class _Object(NamedTuple):
    """An encoded object, and the revision number in it; entries that belong to no service have none in them."""

    number: int
    raw: msgspec.Raw


class RevisionStore:
    """All objects of the configuration, and the log of the paths that each revision changed.

    `epoch` identifies this run of the controller; revisions of other runs are foreign. Not thread-safe.
    """

    def __init__(self, epoch: str, plugins: Sequence[str]) -> None:
        self._epoch = epoch
        self._plugins = tuple(plugins)
        self._number = 0
        self._objects: dict[ObjectPath, _Object] = {}
        self._by_service: dict[ObjectKey, frozenset[ObjectPath]] = {}
        self._log: deque[_Change] = deque()
        self._log_paths = 0
        self._log_start = 0
        self._full: bytes | None = None

    def __repr__(self) -> str:
        return f"<RevisionStore {self.revision}, {len(self._objects)} objects, {len(self._log)} revisions in its log>"

    @property
    def revision(self) -> str:
        """The current revision, `<epoch>.<n>`."""
        return f"{self._epoch}.{self._number}"

    def apply(
        self, changes: Mapping[ObjectKey, ServiceConfiguration | None], *, entries: EntryChanges | None = None
    ) -> bool:
        """Apply the new configurations of services (None: removed) as one revision; return False if no object differs.

        `entries` are the changes of entries that belong to no service.

        Raises before any change: ValueError for a key of another service, TypeError for an object that cannot be
        encoded.
        """
        number = self._number + 1
        wanted = {service: _list_objects(configuration) for service, configuration in changes.items()}
        encoded: dict[ObjectPath, _Object] = {}
        for service, objects in wanted.items():
            own = self._by_service.get(service, frozenset())
            for path, value in objects.items():
                if path not in own and (path in self._objects or path in encoded):
                    raise ValueError(f"{build_wire_path(*path)} of service {service} is another service's")
                if path not in own or not _is_same(self._objects[path], value):
                    encoded[path] = _encode(value, number)
        removed = {
            path
            for service, objects in wanted.items()
            for path in self._by_service.get(service, ())
            if path not in objects
        }
        for path, entry in (entries or {}).items():
            if entry is None:
                removed |= {path} & self._objects.keys()
            elif path not in self._objects or not _is_same(self._objects[path], entry):
                encoded[path] = _encode(entry, number)
        self._replace_services(wanted)
        if not encoded and not removed:
            return False
        change = _Change(number, {path: path in self._objects for path in (*encoded, *removed)})
        for path in removed:
            del self._objects[path]
        self._objects.update(encoded)
        self._number = number
        self._full = None
        self._record(change)
        return True

    def render(self, since: str | None) -> bytes | None:
        """Render the changes since a revision, everything if they are unknown, or None if there are none."""
        base = self._parse_base(since)
        if base is None:
            return self._render_full()
        if base == self._number:
            return None
        return self._render_delta(base)

    def render_service(self, service: ObjectKey) -> bytes:
        """Render the objects of one service, as a whole configuration that has no other service."""
        paths = sorted(self._by_service.get(service, ()))
        sections = _build_sections((path, self._objects[path].raw) for path in paths)
        return render_sections(self.revision, sections, is_full=True, plugins=self._plugins)

    def _parse_base(self, since: str | None) -> int | None:
        """Parse a revision that a delta can start from; None if it is foreign, malformed, in the future or too old."""
        epoch, _, text = (since or "").rpartition(".")
        if epoch != self._epoch or not (text.isascii() and text.isdigit()) or len(text) > len(str(self._number)):
            return None
        base = int(text)
        return base if str(base) == text and self._log_start <= base <= self._number else None

    def _render_full(self) -> bytes:
        if self._full is None:
            sections = _build_sections((path, self._objects[path].raw) for path in sorted(self._objects))
            self._full = render_sections(self.revision, sections, is_full=True, plugins=self._plugins)
        return self._full

    def _render_delta(self, base: int) -> bytes:
        touched: dict[ObjectPath, bool] = {}  # ends with the state at the base revision
        for change in reversed(self._log):
            if change.number <= base:
                break
            touched.update(change.paths)
        ordered = sorted(touched)
        sections = _build_sections((path, self._objects[path].raw) for path in ordered if path in self._objects)
        removed = tuple(build_wire_path(*path) for path in ordered if touched[path] and path not in self._objects)
        return render_sections(self.revision, sections, is_full=False, plugins=self._plugins, removed=removed)

    def _replace_services(self, wanted: Mapping[ObjectKey, dict[ObjectPath, Any]]) -> None:
        for service, objects in wanted.items():
            if objects:
                self._by_service[service] = frozenset(objects)
            else:
                self._by_service.pop(service, None)

    def _record(self, change: _Change) -> None:
        self._log.append(change)
        self._log_paths += len(change.paths)
        while len(self._log) > LOG_LIMIT_REVISIONS or self._log_paths > LOG_LIMIT_PATHS:
            dropped = self._log.popleft()
            self._log_paths -= len(dropped.paths)
            self._log_start = dropped.number


def _list_objects(configuration: ServiceConfiguration | None) -> dict[ObjectPath, Any]:
    if configuration is None:
        return {}
    return {
        ObjectPath(protocol, noun, key): value
        for protocol, section in configuration.sections.items()
        for noun in PROTOCOL_NOUNS
        for key, value in getattr(section, noun).items()
    }


def _encode(value: Any, number: int) -> _Object:
    numbered = msgspec.structs.replace(value, revision=number) if hasattr(value, "revision") else value
    return _Object(number, msgspec.Raw(msgspec.json.encode(numbered)))


def _is_same(current: _Object, value: Any) -> bool:
    """Compare objects as they are sent: 1 equals True in Python, but not in JSON."""
    return bytes(_encode(value, current.number).raw) == bytes(current.raw)


def _build_sections(objects: Iterable[tuple[ObjectPath, msgspec.Raw]]) -> RawSections:
    sections: RawSections = {}
    for path, raw in objects:
        form = SECTION_FORMS.get(path.protocol)
        nouns = PROTOCOL_NOUNS if form is None else [noun for noun in form.nouns if noun not in form.rare_nouns]
        section = sections.setdefault(path.protocol, {noun: {} for noun in nouns})
        section.setdefault(path.noun, {})[path.key] = raw
    return sections
