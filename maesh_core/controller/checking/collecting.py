"""Collects the findings of an engine that has run on manifests, with their codes and places.

Takes the engine, the origins of its objects and the checkers of plugins. Each finding is reported once, on the object
that must be changed: what a Service repeats about another object is left out.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from maesh_core.controller.building import Origins
from maesh_core.controller.checking.catalogue import SERVICE, FindingCatalogue
from maesh_core.controller.checking.core_kinds import (
    FAILED_CHECKER,
    NO_SERVER,
    NOTHING_TO_CHECK,
    OTHER_SERVICE_ERROR,
    OTHER_SERVICE_NOTICE,
    OUTSIDE_SERVICE,
)
from maesh_core.controller.checking.finding import SEVERITIES, CheckResult, Finding
from maesh_core.controller.checking.places import PlaceFinder
from maesh_core.controller.checking.policy import EnginePolicy
from maesh_core.controller.checking.rules import check_rules
from maesh_core.controller.rebuilds.engine import Engine
from maesh_core.controller.topology.rules import EXTERNAL_NAME, is_ignored
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Resource, Service
from maesh_core.plugin_system.policy_checks import FindingKind, PolicyChecker, PolicyFinding
from maesh_core.process.printable import show_line

_read_subject = re.compile(
    r"(?P<kind>[A-Z]\w+) (?P<name>[a-z0-9.-]+)(?:@(?P<namespace>[a-z0-9-]+))?: (?P<text>.+)", re.DOTALL
).fullmatch
_find_others = re.compile(r"(?:^|\bof )([A-Z]\w+(?:\.[\w.]+)?) ([a-z0-9.-]+)(?:@[a-z0-9-]+)?: ").finditer


class _Text(NamedTuple):
    """A text of the engine about an object; `origin` is empty if the object itself is readable."""

    kind: str
    namespace: str
    name: str
    text: str
    is_error: bool
    origin: str = ""


def collect_findings(
    engine: Engine,
    origins: Origins,
    checkers: Sequence[PolicyChecker],
    *,
    ignored: Iterable[str] = (),
    describe: Callable[[object], str] = str,
) -> CheckResult:
    """Collect all findings, except those with an ignored code. Raises PluginError if codes of plugins are invalid."""
    catalogue = FindingCatalogue(checkers, describe)
    policy = EnginePolicy(engine)
    collector = _Collector(engine, origins, catalogue)
    found = chain(
        collector.list_texts(),
        collector.list_unserved(),
        collector.list_outside(),
        collector.list_policy_findings(check_rules(policy.nodes.values())),
        *(collector.run_checker(checker, policy, describe(checker)) for checker in checkers),
    )
    all_found = list(found)
    left_out = frozenset(ignored)
    findings = {each: None for each in (*all_found, *collector.find_nothing(all_found)) if each.code not in left_out}
    return CheckResult(
        findings=tuple(sorted(findings, key=_get_rank)),
        services=len(policy.nodes),
        objects=sum(engine.count_objects().values()),
        rules=tuple(catalogue.kinds),
    )


def _get_rank(finding: Finding) -> tuple[object, ...]:
    place = (finding.file, finding.line) if finding.file else ("~", 0)
    return (*place, SEVERITIES.index(finding.severity), finding.code, finding.namespace, finding.name, finding.text)


class _Collector:
    """Adds codes and places."""

    def __init__(self, engine: Engine, origins: Origins, catalogue: FindingCatalogue) -> None:
        self._engine = engine
        self._types = {kind.label: kind.type for kind in engine.kinds}
        self._labels = {kind.type: kind.label for kind in engine.kinds}
        self._origins = origins
        self._catalogue = catalogue
        self._places = PlaceFinder()

    def list_texts(self) -> Iterator[Finding]:
        """List the errors and notices of all stages."""
        texts = [*self._list_problems(), *self._list_built()]
        others: dict[tuple[str, str], list[str]] = {}
        for each in texts:
            if each.kind != SERVICE:
                others.setdefault((each.kind.partition(".")[0], each.name), []).append(each.text)
        for each in texts:
            if each.kind != SERVICE:
                yield self._build(each)
            elif not _is_repeated(each.text, others):
                yield self._build(self._find_subject(each), as_service=each)

    def list_unserved(self) -> Iterator[Finding]:
        """List the ports that no ready server serves."""
        for report in self._engine.list_reports():
            if report.errors:
                continue
            for port in report.ports:
                if port.unserved:
                    text = show_line(f"port {port.port}: {port.unserved}")
                    yield self._finish(NO_SERVER, (SERVICE, report.namespace, report.name), text)

    def list_outside(self) -> Iterator[Finding]:
        """List the ExternalName Services if no plugin carries them. The mesh ignores them, so nothing else is found."""
        if self._engine.rules.outside is not None:
            return
        for key in self._engine.objects.keys(Service):
            service = self._engine.objects.get(Service, key)
            if service is None or service.spec.type != EXTERNAL_NAME or is_ignored(service, self._engine.rules):
                continue
            yield self._finish(OUTSIDE_SERVICE, (SERVICE, *key), "it is an ExternalName Service", place="spec.type")

    def find_nothing(self, found: Iterable[Finding]) -> Iterator[Finding]:
        """Report that nothing was read, unless an error says why: a wrong path must not pass as a good one."""
        if sum(self._engine.count_objects().values()) == 0 and not any(each.severity == "error" for each in found):
            yield self._finish(NOTHING_TO_CHECK, ("", "", ""), "the paths contain nothing that the mesh reads")

    def run_checker(self, checker: PolicyChecker, policy: EnginePolicy, name: str) -> list[Finding]:
        """List what the checker of a plugin finds, or that it has failed."""
        try:
            return list(self.list_policy_findings(checker.check(policy)))
        except Exception as error:  # a plugin's code may raise anything: only its own findings are affected
            return [self._finish(FAILED_CHECKER, ("", "", ""), show_line(f"{name}: {type(error).__name__}: {error}"))]

    def list_policy_findings(self, found: Iterable[PolicyFinding]) -> Iterator[Finding]:
        """List what a checker has found."""
        for each in found:
            kind = self._catalogue.get(each.code)
            label = SERVICE if each.type is None else self._labels.get(each.type, each.type.__name__)
            text = show_line(each.text)
            if kind is None:
                kind, text = FAILED_CHECKER, f"a checker reports the unknown code {each.code[:20]!a}: {text}"
            yield self._finish(kind, (label, *each.key), text, place=each.place)

    def _list_problems(self) -> Iterator[_Text]:
        for origin, problem in self._engine.all_problems.items():
            namespace, name = problem.key or ("", "")
            if problem.text:
                text = show_line(problem.text)
                yield _Text(problem.kind, namespace, name, text, not problem.is_notice, origin)

    def _list_built(self) -> Iterator[_Text]:
        for subject, findings in self._engine.reports.list_built():
            yield from (_Text(subject.kind, *subject.key, text, is_error=True) for text in findings.errors)
            yield from (_Text(subject.kind, *subject.key, text, is_error=False) for text in findings.notices)

    def _find_subject(self, each: _Text) -> _Text:
        """Attribute a text of a Service to the object that it begins with, if there is one."""
        match = _read_subject(each.text)
        if match is None:
            return each
        key = ObjectKey(match["namespace"] or each.namespace, match["name"])
        for label, type_ in self._types.items():
            if label.partition(".")[0] == match["kind"] and (type_, key) in self._origins:
                return each._replace(kind=label, namespace=key.namespace, name=key.name, text=match["text"])
        return each

    def _build(self, each: _Text, *, as_service: _Text | None = None) -> Finding:
        """Build a finding; one that a Service has about another object can have a kind for either."""
        kind = self._classify(each if as_service is None else as_service)
        if as_service is not None and kind in (OTHER_SERVICE_ERROR, OTHER_SERVICE_NOTICE):
            kind = self._classify(each)
        return self._finish(kind, (each.kind, each.namespace, each.name), each.text, origin=each.origin)

    def _classify(self, each: _Text) -> FindingKind:
        is_problem = bool(each.origin and each.kind)
        return self._catalogue.classify(each.kind, each.text, is_error=each.is_error, is_problem=is_problem)

    def _finish(
        self, kind: FindingKind, subject: tuple[str, str, str], text: str, *, place: str = "", origin: str = ""
    ) -> Finding:
        label, namespace, name = subject
        type_: type[Resource] | None = self._types.get(label)
        if not origin and type_ is not None:
            origin = self._origins.get((type_, ObjectKey(namespace, name)), "")
        found = self._places.find(origin, text, place)
        return Finding(
            code=kind.code,
            severity=kind.severity,
            text=text,
            hint=kind.hint,
            kind=label,
            namespace=namespace,
            name=name,
            file=found.file,
            line=found.line,
        )


def _is_repeated(text: str, others: dict[tuple[str, str], list[str]]) -> bool:
    """Whether a text of a Service repeats one of another object, which it names."""
    named = (((match[1].partition(".")[0], match[2]), text[match.end() :]) for match in _find_others(text))
    return any(known in text or rest in known for subject, rest in named for known in others.get(subject, ()))
