"""Builds the mesh's part of objects' statuses; a change repeats only the builds that it concerns.

Takes the snapshot, the builders of plugins, and the node of each service; stores the statuses, for `/api/status/PAGE`
and for the leader that writes them. The result of a build depends on the object, on the services that it concerns and
on what it reads: it is repeated if one of these changes.
"""

import logging
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from maesh_core.controller.rebuilds.dependencies import DependencyIndex
from maesh_core.controller.reports.object_checks import Subject
from maesh_core.controller.resources.snapshot import Snapshot
from maesh_core.controller.resources.view import ObjectRead, Read, VersionRead
from maesh_core.controller.topology.builder import BuilderView
from maesh_core.controller.topology.rules import TopologyRules, is_ignored
from maesh_core.errors import PluginError
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Resource, ResourceKind
from maesh_core.model.topology import ServiceNode
from maesh_core.plugin_system.hookspecs import CONTROLLER_NAME, Status, StatusBuilder

CORE_PAGES = frozenset({"controller", "liveness", "node", "nodes", "readiness"})
"""The last parts of paths below `/api/status/` that belong to the core."""

_PAGE = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
_log = logging.getLogger(__name__)


class WantedStatus(msgspec.Struct, frozen=True):
    """The entries that an object's status must have of the mesh, and where they are written."""

    kind: ResourceKind
    field: str
    key: ObjectKey
    uid: str
    resource_version: str
    entries: tuple[Mapping[str, Any], ...]
    condition_types: tuple[str, ...]


class ObjectStatuses:
    """The statuses by object. Call `set_service` after each build, then `update` once for all.

    Raises PluginError if no kind has the type of a builder, if a type has two builders, or for a bad page.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        kinds: Sequence[ResourceKind],
        builders: Iterable[StatusBuilder],
        rules: TopologyRules,
    ) -> None:
        self._snapshot = snapshot
        self._rules = rules
        self._labels: dict[type[Resource], str] = {kind.type: kind.label for kind in kinds}
        self._kinds = {kind.label: kind for kind in kinds}
        self._builders: dict[str, StatusBuilder] = {}
        for builder in builders:
            self._add(builder)
        self._callbacks: list[Callable[[Iterable[Subject]], None]] = []
        self._dependencies: DependencyIndex[Subject] = DependencyIndex()
        self._found: dict[Subject, Status] = {}
        self._failures: dict[Subject, str] = {}
        self._nodes: dict[ObjectKey, ServiceNode] = {}
        """The services that concern an object with a builder."""
        self._concerned: dict[Subject, set[ObjectKey]] = {}
        self._due: set[Subject] = set()
        self._rendered: dict[str, bytes] = {}
        self.build_count = 0
        """The number of builds of single statuses so far."""

    def __repr__(self) -> str:
        return f"<ObjectStatuses of {len(self._found)} objects>"

    def _add(self, builder: StatusBuilder) -> None:
        label = self._labels.get(builder.type)
        if label is None:
            raise PluginError(f"there is a builder of statuses of {builder.type.__name__}, which nothing declares")
        if label in self._builders:
            raise PluginError(f"there are two builders of statuses of {label}")
        if _PAGE.fullmatch(builder.page) is None or builder.page in CORE_PAGES:
            raise PluginError(f"a builder of statuses cannot have the page {builder.page!r}")
        self._builders[label] = builder

    @property
    def pages(self) -> tuple[str, ...]:
        """The names of the pages, sorted."""
        return tuple(sorted({builder.page for builder in self._builders.values()}))

    def on_changed(self, callback: Callable[[Iterable[Subject]], None]) -> None:
        """Call back with the objects that have changed, and those whose status is a different one."""
        self._callbacks.append(callback)

    # --- what is built

    def set_service(self, key: ObjectKey, node: ServiceNode | None) -> None:
        """Replace the node of a service after its build; None if it no longer exists."""
        if not self._builders:
            return
        before = self._list_subjects(self._nodes.pop(key, None))
        after = self._list_subjects(node)
        if node is not None and after:
            self._nodes[key] = node
        for subject in before - after:
            services = self._concerned[subject]
            services.discard(key)
            if not services:
                del self._concerned[subject]
        for subject in after - before:
            self._concerned.setdefault(subject, set()).add(key)
        self._due |= before | after

    def _list_subjects(self, node: ServiceNode | None) -> set[Subject]:
        if node is None:
            return set()
        pairs = ((self._labels.get(each.type, ""), each.key) for each in node.objects)
        return {Subject(label, key) for label, key in pairs if label in self._builders}

    def update(self, affected: Collection[Read] = (), *, is_everything: bool = False) -> None:
        """Run the builds that are due, and call back."""
        if not self._builders:
            return
        due, self._due = self._due | self._dependencies.find_readers(affected), set()
        touched = self._select(affected, ObjectRead)
        if is_everything:
            touched.update(self.list_subjects())
        changed = {subject for subject in sorted(due | touched) if self._refresh(subject)}
        changed |= touched | self._select(affected, VersionRead)
        if changed:
            for callback in self._callbacks:
                callback(sorted(changed))

    def _select(self, affected: Collection[Read], read_type: type[ObjectRead] | type[VersionRead]) -> set[Subject]:
        """Select the objects of reads of one type, of kinds that have a builder."""
        return {
            Subject(label, read.key)
            for read in affected
            if isinstance(read, read_type) and (label := self._labels.get(read.type, "")) in self._builders
        }

    def _refresh(self, subject: Subject) -> bool:
        """Build the status of an object; return whether it differs."""
        before = self._found.pop(subject, None)
        resource = self._get(subject)
        if resource is None or is_ignored(resource, self._rules):
            self._dependencies.forget(subject)
            self._failures.pop(subject, None)
            after = None
        else:
            after = self._build(subject, resource, before)
        if after is not None:
            self._found[subject] = after
        if after == before:
            return False
        self._rendered.pop(self._builders[subject.kind].page, None)
        return True

    def _build(self, subject: Subject, resource: Resource, before: Status | None) -> Status | None:
        self.build_count += 1
        view = self._snapshot.view()
        services = {key: self._nodes[key] for key in sorted(self._concerned.get(subject, ()))}
        builder = self._builders[subject.kind]
        try:
            found = builder.build_status(BuilderView(view, self._rules), resource, services)
            if found is not None:
                _check(found)
        except Exception as error:  # a plugin's builder may raise anything: only this status is affected
            text = f"its status could not be built: {type(error).__name__}: {' '.join(str(error).split())}"
            if self._failures.get(subject) != text:
                _log.error("%s: %s", subject, text, exc_info=error)
            self._failures[subject] = text
            found = before
        else:
            self._failures.pop(subject, None)
        self._dependencies.set_reads(subject, view.reads)
        return found

    def _get(self, subject: Subject) -> Resource | None:
        return self._snapshot.get(self._kinds[subject.kind].type, subject.key)

    # --- what is published

    def list_subjects(self) -> list[Subject]:
        """List all objects that can have a status of the mesh, sorted."""
        return sorted(
            Subject(label, key) for label in self._builders for key in self._snapshot.keys(self._kinds[label].type)
        )

    def find_wanted(self, subject: Subject) -> WantedStatus | None:
        """Return the status that an object must have; None if there is no such object."""
        resource = self._get(subject) if subject.kind in self._builders else None
        if resource is None:
            return None
        builder, found = self._builders[subject.kind], self._found.get(subject)
        return WantedStatus(
            kind=self._kinds[subject.kind],
            field=builder.field,
            key=subject.key,
            uid=resource.metadata.uid,
            resource_version=resource.metadata.resource_version,
            entries=() if found is None else found.entries,
            condition_types=builder.condition_types,
        )

    def render(self, page: str) -> bytes:
        """Render `/api/status/PAGE`: the objects that have a status, sorted by kind, namespace and name."""
        rendered = self._rendered.get(page)
        if rendered is None:
            rendered = self._rendered[page] = msgspec.json.encode(
                [
                    {
                        "kind": self._kinds[subject.kind].name,
                        "namespace": subject.key.namespace,
                        "name": subject.key.name,
                        builder.field: found.entries,
                    }
                    for subject, found in sorted(self._found.items())
                    if (builder := self._builders[subject.kind]).page == page
                ]
            )
        return rendered


def _check(status: Status) -> None:
    """Raise ValueError for a status that cannot be written as the mesh's."""
    for entry in status.entries:
        if entry.get("controllerName") != CONTROLLER_NAME:
            raise ValueError(f"an entry does not have controllerName {CONTROLLER_NAME}")
        types = [condition["type"] for condition in entry.get("conditions", ())]
        if len(set(types)) != len(types):
            raise ValueError("an entry has a condition twice")
    msgspec.json.encode(status)
