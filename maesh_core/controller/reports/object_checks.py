"""Runs the checks of single objects; a change repeats only the checks that it concerns.

Takes the snapshot, the checkers of plugins, and the services that each object concerns; stores the findings. The result
of a check depends on the object, on those services and on what it reads: it is repeated if one of these changes.
"""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from maesh_core.controller.rebuilds.dependencies import DependencyIndex
from maesh_core.controller.resources.snapshot import Snapshot
from maesh_core.controller.resources.view import ObjectRead, Read
from maesh_core.controller.topology.builder import BuilderView
from maesh_core.controller.topology.rules import TopologyRules, is_ignored
from maesh_core.errors import ConfigurationError, PluginError
from maesh_core.model.findings import Findings, join_findings
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import REFERENCES, CheckedResource, Resource, ResourceKind, build_reference
from maesh_core.plugin_system.hookspecs import ObjectChecker
from maesh_core.plugin_system.interfaces import TopologyView

_log = logging.getLogger(__name__)


class Subject(NamedTuple):
    """An object with findings: the name of its kind, and its key."""

    kind: str
    key: ObjectKey

    def __str__(self) -> str:
        """Render for a log line: `TrafficSplit name@namespace`."""
        return f"{self.kind} {self.key}"


class ReferenceChecker:
    """Finds objects that have no effect by themselves and that no other object refers to."""

    def __init__(self, kind: ResourceKind, naming: Sequence[ResourceKind]) -> None:
        self.type: type[Any] = kind.type
        self._kind = kind
        self._naming = naming

    def check(self, view: TopologyView, resource: Any, services: Sequence[ObjectKey]) -> Findings | None:
        """Look for an object of any kind that refers to this one."""
        reference = build_reference(self._kind.label, resource.key)
        if any(view.find(kind.type, REFERENCES, reference) for kind in self._naming):
            return None
        names = " or ".join(kind.label for kind in self._naming) or "object of an enabled plugin"
        return Findings(notices=(f"no {names} refers to it, so it has no effect",))


def build_reference_checkers(kinds: Iterable[ResourceKind]) -> list[ObjectChecker]:
    """Build a checker for each kind whose objects need another object that refers to them."""
    known = tuple(kinds)
    naming = sorted((kind for kind in known if REFERENCES in kind.indexes), key=lambda kind: kind.label)
    return [ReferenceChecker(kind, naming) for kind in known if kind.needs_reference]


class ObjectChecks:
    """The findings of checks, by object; objects that the mesh ignores are not checked.

    Raises PluginError if no kind has the type of a checker.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        kinds: Sequence[ResourceKind],
        checkers: Iterable[ObjectChecker],
        rules: TopologyRules,
    ) -> None:
        self._snapshot = snapshot
        self._rules = rules
        self._types: dict[str, type[Resource]] = {kind.label: kind.type for kind in kinds}
        self._names = {kind.type: kind.label for kind in kinds}
        self._checkers: dict[str, list[ObjectChecker]] = {}
        for checker in checkers:
            if checker.type not in self._names:
                raise PluginError(f"objects of type {checker.type.__name__} are checked, which nothing declares")
            self._checkers.setdefault(self._names[checker.type], []).append(checker)
        self._dependencies: DependencyIndex[Subject] = DependencyIndex()
        self._found: dict[Subject, Findings] = {}
        self._failures: dict[Subject, str] = {}
        self.run_count = 0
        """The number of checks of single objects so far."""

    def __repr__(self) -> str:
        return f"<ObjectChecks {len(self._found)} objects with findings, {self._dependencies!r}>"

    def find(self, subject: Subject) -> Findings:
        """Return the findings of an object's last check."""
        return self._found.get(subject, Findings())

    def list_subjects(self) -> list[Subject]:
        """List the objects with findings."""
        return list(self._found)

    def run_all(self, services: Mapping[Subject, Collection[ObjectKey]]) -> set[Subject]:
        """Check every object of the kinds that have a checker; return the checked objects."""
        due = {Subject(name, key) for name in self._checkers for key in self._snapshot.keys(self._types[name])}
        return self._run(due, services)

    def run(
        self,
        affected: Collection[Read],
        concerned: Iterable[Subject],
        services: Mapping[Subject, Collection[ObjectKey]],
    ) -> set[Subject]:
        """Check objects that a change affects, and those that now concern other services; return the checked ones."""
        due = self._dependencies.find_readers(affected) | set(concerned)
        for read in affected:
            if isinstance(read, ObjectRead) and read.type in self._names:
                due.add(Subject(self._names[read.type], read.key))
        return self._run({subject for subject in due if subject.kind in self._checkers}, services)

    def _run(self, due: set[Subject], services: Mapping[Subject, Collection[ObjectKey]]) -> set[Subject]:
        for subject in sorted(due):
            found = self._check(subject, sorted(services.get(subject, ())))
            if found:
                self._found[subject] = found
            else:
                self._found.pop(subject, None)
        return due

    def _check(self, subject: Subject, services: Sequence[ObjectKey]) -> Findings:
        resource = self._snapshot.get(self._types[subject.kind], subject.key)
        if resource is None or is_ignored(resource, self._rules):
            self._dependencies.forget(subject)
            self._failures.pop(subject, None)
            return Findings()
        self.run_count += 1
        view = self._snapshot.view()
        reader = BuilderView(view, self._rules)
        parts = [self._ask(checker, reader, subject, resource, services) for checker in self._checkers[subject.kind]]
        self._dependencies.set_reads(subject, view.reads)
        return join_findings(part for part in parts if part is not None)

    def _ask(
        self,
        checker: ObjectChecker,
        view: TopologyView,
        subject: Subject,
        resource: Resource,
        services: Sequence[ObjectKey],
    ) -> Findings | None:
        if (
            isinstance(resource, CheckedResource) and resource.faults
        ):  # reported where it was read; nothing else matters
            return None
        try:
            return checker.check(view, resource, services)
        except ConfigurationError as error:
            return Findings(errors=(str(error),))
        except Exception as error:  # a plugin's checker may raise anything: only this report is affected
            text = f"it could not be checked: {type(error).__name__}: {' '.join(str(error).split())}"
            if self._failures.get(subject) != text:
                _log.error("%s: %s", subject, text, exc_info=error)
            self._failures[subject] = text
            return Findings(errors=(text,))
