"""The errors and notices of each object of the cluster, from every stage. They are published only from here.

Joins what discovery could not read, what the builds of services found about them and about other objects, and the
findings of checks. Feeds `/api/objects`, the log and Events. The cost of an update depends on what changed.
"""

from collections.abc import Callable, Collection, Iterable, Sequence

import msgspec

from maesh_core.controller.reports.finding_log import FindingLog
from maesh_core.controller.reports.object_checks import ObjectChecks, Subject, build_reference_checkers
from maesh_core.controller.resources.snapshot import Snapshot
from maesh_core.controller.resources.view import Read
from maesh_core.controller.topology.rules import TopologyRules
from maesh_core.model.events import Problem
from maesh_core.model.findings import Findings, ObjectFindings, join_findings
from maesh_core.model.keys import ObjectIdentity, ObjectKey
from maesh_core.model.messages import ObjectReport
from maesh_core.model.resources import ResourceKind
from maesh_core.plugin_system.hookspecs import ObjectChecker
from maesh_core.process.printable import show_line

TEXTS_LIMIT = 20
"""Limit of shown errors, and of notices, of one object: a rule may concern thousands of services."""
SERVICE = "Service"


class ObjectReports:
    """The findings by object. Call `set_service` after each build, then `update` once for all."""

    def __init__(
        self,
        snapshot: Snapshot,
        kinds: Sequence[ResourceKind],
        checkers: Iterable[ObjectChecker],
        rules: TopologyRules,
    ) -> None:
        self._snapshot = snapshot
        self._kinds = {kind.label: kind for kind in kinds}
        self._names = {kind.type: kind.label for kind in kinds}
        self._checks = ObjectChecks(snapshot, kinds, [*checkers, *build_reference_checkers(kinds)], rules)
        self._log = FindingLog()
        self._callbacks: list[Callable[[Iterable[Subject]], None]] = []
        self._rendered: bytes | None = None
        self._own: dict[ObjectKey, Findings] = {}
        """The findings of each service's build about the service itself."""
        self._outside: dict[ObjectKey, dict[str, tuple[str, ...]]] = {}
        """Errors of services that do not come from their builds, by aspect."""
        self._examined: dict[ObjectKey, tuple[Subject, ...]] = {}
        """The objects that each service's build examined."""
        self._parts: dict[Subject, dict[ObjectKey, Findings]] = {}
        """The findings of services' builds about an object, by service."""
        self._problems: dict[str, Problem] = {}
        self._problems_of: dict[Subject, dict[str, Problem]] = {}
        self._changed: set[Subject] = set()
        self._concerned: set[Subject] = set()
        self._found: dict[Subject, Findings] = {}

    def __repr__(self) -> str:
        return f"<ObjectReports {len(self._found)} objects, {self._checks!r}>"

    def on_changed(self, callback: Callable[[Iterable[Subject]], None]) -> None:
        """Call back with the objects whose findings have changed."""
        self._callbacks.append(callback)

    @property
    def check_count(self) -> int:
        """The number of checks of single objects so far."""
        return self._checks.run_count

    # --- what stages report

    def set_service(
        self, key: ObjectKey, own: Findings, objects: Sequence[ObjectFindings] = (), *, logged: Collection[str] = ()
    ) -> None:
        """Replace the findings of a service's last build, about the service and about the objects that it examined.

        If the log line of an object has the same text, it is not logged for the service again; texts in `logged` have
        been logged already.
        """
        self._own[key] = own
        self._changed.add(Subject(SERVICE, key))
        self._set_parts(key, objects)
        logged_elsewhere = [text for each in objects for text in (*each.errors, *each.notices)]
        texts = tuple(text for text in own.texts if not any(part in text for part in logged_elsewhere))
        self._log.update(f"service {key}", texts, logged=logged)

    def forget_service(self, key: ObjectKey) -> None:
        """Forget a service that no longer exists."""
        if self._own.pop(key, None) is not None:
            self._changed.add(Subject(SERVICE, key))
            self._set_parts(key, ())
            self._log.update(f"service {key}", ())

    def set_outside(self, key: ObjectKey, errors: tuple[str, ...], *, aspect: str) -> bool:
        """Replace a service's errors of one aspect that do not come from its build; return whether they differ."""
        errors = tuple(map(show_line, errors))
        shown = self._outside.setdefault(key, {})
        has_changed = shown.get(aspect, ()) != errors
        shown[aspect] = errors
        if not any(shown.values()):
            del self._outside[key]
        if has_changed:
            self._changed.add(Subject(SERVICE, key))
            self.update()
        return has_changed

    def list_outside(self, key: ObjectKey) -> tuple[str, ...]:
        """List a service's errors that do not come from its build."""
        return tuple(text for texts in self._outside.get(key, {}).values() for text in texts)

    def _set_parts(self, key: ObjectKey, objects: Sequence[ObjectFindings]) -> None:
        """Replace the findings of a service's build about other objects."""
        found: dict[Subject, list[ObjectFindings]] = {}
        for each in objects:
            found.setdefault(Subject(self._names.get(each.type, each.type.__name__), each.key), []).append(each)
        for subject in set(self._examined.pop(key, ())) - found.keys():
            parts = self._parts[subject]
            del parts[key]
            self._changed.add(subject)
            self._concerned.add(subject)
            if not parts:
                del self._parts[subject]
        for subject, each_found in found.items():
            parts = self._parts.setdefault(subject, {})
            if key not in parts:
                self._concerned.add(subject)
            parts[key] = join_findings(each_found)
            self._changed.add(subject)
        if found:
            self._examined[key] = tuple(found)

    def update(self, affected: Collection[Read] = (), *, is_everything: bool = False) -> None:
        """Run the checks that are due, log their findings, and call back with the objects that differ."""
        self._compare_problems()
        if is_everything:
            checked = self._checks.run_all(self._parts)
        else:
            checked = self._checks.run(affected, self._concerned, self._parts)
        changed = [subject for subject in sorted(self._changed | checked) if self._refresh(subject)]
        self._changed.clear()
        self._concerned.clear()
        self._rendered = None
        if changed:
            for callback in self._callbacks:
                callback(changed)

    def _compare_problems(self) -> None:
        known = self._snapshot.all_problems
        if known == self._problems:
            return
        for origin in self._problems.keys() | known.keys():
            before, after = self._problems.get(origin), known.get(origin)
            if before == after:
                continue
            for problem in (before, after):
                subject = _find_subject(problem)
                if problem is None or subject is None:
                    continue
                self._changed.add(subject)
                problems = self._problems_of.setdefault(subject, {})
                if problem is after:
                    problems[origin] = problem
                else:
                    problems.pop(origin, None)
                if not problems:
                    del self._problems_of[subject]
        self._problems = dict(known)

    def _refresh(self, subject: Subject) -> bool:
        """Join the findings of an object; return whether they have changed."""
        built = self._join_built(subject)
        if subject.kind != SERVICE:
            self._log.update(str(subject), built.texts)
        found = _limit(join_findings([*self._list_problems(subject), built]))
        before = self._found.pop(subject, Findings())
        if found:
            self._found[subject] = found
        return found != before

    def _join_built(self, subject: Subject) -> Findings:
        parts = self._parts.get(subject, {})
        own: list[Findings] = []
        if subject.kind == SERVICE and subject.key in self._own:
            own = [self._own[subject.key], Findings(errors=self.list_outside(subject.key))]
        return join_findings([*own, self._checks.find(subject), *(parts[key] for key in sorted(parts))])

    def _list_problems(self, subject: Subject) -> list[Findings]:
        return [_to_findings(problem) for _, problem in sorted(self._problems_of.get(subject, {}).items())]

    # --- what is published

    def render(self) -> bytes:
        """Render `/api/objects`."""
        if self._rendered is None:
            self._rendered = msgspec.json.encode(self.list_reports())
        return self._rendered

    def list_reports(self) -> list[ObjectReport]:
        """Report every object with findings, then problems that concern no object, sorted."""
        objects = [self._report(subject, self._found[subject]) for subject in sorted(self._found)]
        others = [
            ObjectReport(kind=problem.kind, origin=origin, errors=found.errors, notices=found.notices)
            for origin, problem in sorted(self._snapshot.all_problems.items())
            if _find_subject(problem) is None
            for found in [_to_findings(problem)]
        ]
        return [*objects, *others]

    def list_built(self) -> list[tuple[Subject, Findings]]:
        """List all findings of builds and checks, sorted by object; those of unreadable objects are not among them."""
        services = (Subject(SERVICE, key) for key in self._own)
        subjects = sorted({*services, *self._parts, *self._checks.list_subjects()})
        return [(subject, found) for subject in subjects if (found := self._join_built(subject))]

    def copy_found(self) -> dict[Subject, Findings]:
        """Copy the findings of each object that has any."""
        return self._found.copy()

    def find_identified(self, subject: Subject) -> dict[ObjectIdentity, Findings]:
        """Return the findings of an object, by its identity in the cluster; empty if there are none."""
        found, kind = self._found.get(subject), self._kinds.get(subject.kind)
        if not found or kind is None:
            return {}
        resource = self._snapshot.get(kind.type, subject.key)
        uids = [problem.uid for problem in self._problems_of.get(subject, {}).values()]
        uid = resource.metadata.uid if resource is not None else next(iter(uids), "")
        return {ObjectIdentity(kind.api_versions[0], kind.name, subject.key, uid): found}

    def list_subjects(self) -> list[Subject]:
        """List the objects with findings, sorted."""
        return sorted(self._found)

    def _report(self, subject: Subject, found: Findings) -> ObjectReport:
        kind = self._kinds.get(subject.kind)
        origins = sorted(self._problems_of.get(subject, ()))
        source = self._snapshot.find_source(kind.type, subject.key) if kind else ""
        return ObjectReport(
            kind=subject.kind,
            namespace=subject.key.namespace,
            name=subject.key.name,
            origin=", ".join(origins) or source,
            errors=found.errors,
            notices=found.notices,
        )


def _find_subject(problem: Problem | None) -> Subject | None:
    """Find the object that a problem is about; None if it is about none, or if that is unknown."""
    if problem is None or problem.key is None:
        return None
    return Subject(problem.kind, problem.key)


def _to_findings(problem: Problem) -> Findings:
    texts = (show_line(problem.text),) if problem.text else ()
    return Findings(notices=texts) if problem.is_notice else Findings(errors=texts)


def _limit(found: Findings) -> Findings:
    return Findings(errors=_cut(found.errors), notices=_cut(found.notices))


def _cut(texts: tuple[str, ...]) -> tuple[str, ...]:
    rest = len(texts) - TEXTS_LIMIT
    return texts if rest <= 0 else (*texts[:TEXTS_LIMIT], f"and {rest} more")
