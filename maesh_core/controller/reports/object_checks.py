"""Runs what looks for objects without effect, at the cost of what changed.

Takes the snapshot, the checkers of plugins, and the services that each object concerns; keeps what was found. A check
is a function of the object, of those services and of what it reads: it runs again when one of these changes.
"""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from maesh_core.controller.dependencies import DependencyIndex
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
    """An object that something was found about: the name of its kind, and its key."""

    kind: str
    key: ObjectKey

    def __str__(self) -> str:
        """Render for a log line: `TrafficSplit name@namespace`."""
        return f"{self.kind} {self.key}"


class ReferenceChecker:
    """Finds objects that mean nothing by themselves, and that no other names."""

    def __init__(self, kind: ResourceKind, naming: Sequence[ResourceKind]) -> None:
        self.type: type[Any] = kind.type
        self._kind = kind
        self._naming = naming

    def check(self, view: TopologyView, resource: Any, services: Sequence[ObjectKey]) -> Findings | None:
        """Look for an object of any kind that names this one."""
        reference = build_reference(self._kind.name, resource.key)
        if any(view.find(kind.type, REFERENCES, reference) for kind in self._naming):
            return None
        names = " or ".join(kind.name for kind in self._naming) or "object of an enabled plugin"
        return Findings(notices=(f"no {names} names it, so it has no effect",))


def build_reference_checkers(kinds: Iterable[ResourceKind]) -> list[ObjectChecker]:
    """Build a checker for each kind whose objects need others that name them."""
    known = tuple(kinds)
    naming = sorted((kind for kind in known if REFERENCES in kind.indexes), key=lambda kind: kind.name)
    return [ReferenceChecker(kind, naming) for kind in known if kind.needs_reference]


class ObjectChecks:
    """What checks found, by object; objects that the mesh ignores are not checked.

    Raises PluginError where nothing declares the type that a checker is for.
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
        self._types: dict[str, type[Resource]] = {kind.name: kind.type for kind in kinds}
        self._names = {kind.type: kind.name for kind in kinds}
        self._checkers: dict[str, list[ObjectChecker]] = {}
        for checker in checkers:
            if checker.type not in self._names:
                raise PluginError(f"objects of type {checker.type.__name__} are checked, which nothing declares")
            self._checkers.setdefault(self._names[checker.type], []).append(checker)
        self._dependencies: DependencyIndex[Subject] = DependencyIndex()
        self._found: dict[Subject, Findings] = {}
        self._failures: dict[Subject, str] = {}
        self.run_count = 0
        """How many checks of single objects there have been."""

    def __repr__(self) -> str:
        return f"<ObjectChecks {len(self._found)} objects with findings, {self._dependencies!r}>"

    def find(self, subject: Subject) -> Findings:
        """Give what the last check of an object found."""
        return self._found.get(subject, Findings())

    def run_all(self, services: Mapping[Subject, Collection[ObjectKey]]) -> set[Subject]:
        """Check every object of the kinds that have a checker; gives those that were checked."""
        due = {Subject(name, key) for name in self._checkers for key in self._snapshot.keys(self._types[name])}
        return self._run(due, services)

    def run(
        self,
        affected: Collection[Read],
        concerned: Iterable[Subject],
        services: Mapping[Subject, Collection[ObjectKey]],
    ) -> set[Subject]:
        """Check what a change affects, and objects that now concern other services; gives those that were checked."""
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
        if isinstance(resource, CheckedResource) and resource.faults:  # said where it was read, and nothing else counts
            return None
        try:
            return checker.check(view, resource, services)
        except ConfigurationError as error:
            return Findings(errors=(str(error),))
        except Exception as error:  # a plugin's checker may raise anything: it harms this report alone
            text = f"it could not be checked: {type(error).__name__}: {' '.join(str(error).split())}"
            if self._failures.get(subject) != text:
                _log.error("%s: %s", subject, text, exc_info=error)
            self._failures[subject] = text
            return Findings(errors=(text,))
