import logging
from types import SimpleNamespace

import pytest

from maesh_core.controller.reports.object_checks import (
    ObjectChecks,
    ReferenceChecker,
    Subject,
    build_reference_checkers,
)
from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.controller.resources.snapshot import Snapshot
from maesh_core.controller.topology.rules import TopologyRules
from maesh_core.errors import ConfigurationError, PluginError
from maesh_core.model.events import Applied, Deleted, Replaced
from maesh_core.model.findings import Findings
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import (
    REFERENCES,
    CheckedResource,
    ObjectMeta,
    Pod,
    Resource,
    ResourceKind,
    Service,
    build_reference,
)


class Rule(Resource, frozen=True):
    """Names a service and a part."""

    service: str = ""
    part: str = ""


class Part(Resource, frozen=True):
    """Means nothing by itself."""


class Strict(CheckedResource, frozen=True):
    """Is read strictly."""


def list_references(rule):
    return [build_reference("Part", ObjectKey(rule.metadata.namespace, rule.part))] if rule.part else []


RULES = ResourceKind(
    name="Rule", plural="rules", api_versions=("t/v1",), type=Rule, indexes={REFERENCES: list_references}
)
PARTS = ResourceKind(name="Part", plural="parts", api_versions=("t/v1",), type=Part, needs_reference=True)
STRICTS = ResourceKind(name="Strict", plural="stricts", api_versions=("t/v1",), type=Strict, needs_reference=True)
KINDS = (*CORE_KINDS, RULES, PARTS, STRICTS)


class RuleChecker:
    """Looks for the service of a rule; does what the rule's name says."""

    type = Rule

    def check(self, view, resource, services):
        if resource.metadata.name == "bad":
            raise ConfigurationError("it is bad")
        if resource.metadata.name == "boom":
            raise RuntimeError("boom\nboom")
        if services:
            return Findings(notices=tuple(f"concerns {key.name}" for key in services))
        if view.get(Service, ObjectKey(resource.metadata.namespace, resource.service)) is None:
            return Findings(errors=(f"no service {resource.service}",))
        return None


def make(type_, name, namespace="n", labels=None, **fields):
    return type_(metadata=ObjectMeta(name=name, namespace=namespace, labels=labels or {}), **fields)


class Stage(SimpleNamespace):
    def __init__(self, *resources, checkers=None, rules=None):
        snapshot = Snapshot(KINDS)
        by_type = {kind.type: [each for each in resources if type(each) is kind.type] for kind in KINDS}
        snapshot.apply([Replaced(type_, found) for type_, found in by_type.items()], source="s")
        checkers = [RuleChecker(), *build_reference_checkers(KINDS)] if checkers is None else checkers
        checks = ObjectChecks(snapshot, KINDS, checkers, rules or TopologyRules())
        super().__init__(snapshot=snapshot, checks=checks, services={})
        self.all = checks.run_all(self.services)

    def apply(self, *events, concerned=()):
        affected = self.snapshot.apply(events, source="s")
        return self.checks.run(affected, concerned, self.services)

    def find(self, kind, name):
        return self.checks.find(Subject(kind, ObjectKey("n", name)))


def test_every_object_of_a_checked_kind_is_checked_once_at_first_and_no_other():
    stage = Stage(make(Rule, "a", service="web"), make(Service, "web"), make(Pod, "p"), make(Part, "x"))
    assert stage.all == {Subject("Rule", ObjectKey("n", "a")), Subject("Part", ObjectKey("n", "x"))}
    assert stage.checks.run_count == 2
    assert not stage.find("Rule", "a")


def test_a_check_runs_again_when_its_object_or_what_it_read_changes_and_only_then():
    stage = Stage(make(Rule, "a", service="web"), make(Rule, "b", service="api"), make(Service, "api"))
    assert stage.find("Rule", "a") == Findings(errors=("no service web",))
    assert stage.apply(Applied(make(Service, "other")), Applied(make(Pod, "p"))) == set()
    assert stage.apply(Applied(make(Service, "web"))) == {Subject("Rule", ObjectKey("n", "a"))}
    assert not stage.find("Rule", "a")
    stage.apply(Applied(make(Rule, "a", service="gone")))
    assert stage.find("Rule", "a") == Findings(errors=("no service gone",))


def test_a_check_runs_again_when_its_object_concerns_other_services():
    stage = Stage(make(Rule, "a", service="web"))
    subject = Subject("Rule", ObjectKey("n", "a"))
    stage.services[subject] = {ObjectKey("n", "b"), ObjectKey("n", "a")}
    assert stage.apply(concerned=[subject]) == {subject}
    assert stage.find("Rule", "a") == Findings(notices=("concerns a", "concerns b"))


def test_what_was_found_goes_with_its_object_and_leaves_nothing_behind():
    stage = Stage(make(Rule, "a", service="web"))
    stage.apply(Deleted(Rule, ObjectKey("n", "a")))
    assert not stage.find("Rule", "a")
    assert stage.apply(Applied(make(Service, "web"))) == set()
    assert "services=0 reads=0" in repr(stage.checks)


@pytest.mark.parametrize("change", [{"namespace": "kube-system"}, {"labels": {"app": "maesh"}}])
def test_objects_that_the_mesh_leaves_alone_are_not_checked(change):
    stage = Stage(make(Rule, "a", service="web", **change))
    assert stage.checks.run_count == 0


def test_a_configuration_error_is_an_error_of_the_object(caplog):
    assert Stage(make(Rule, "bad")).find("Rule", "bad") == Findings(errors=("it is bad",))
    assert caplog.records == []


def test_a_checker_that_breaks_harms_its_object_alone_and_is_logged_once(caplog):
    stage = Stage(make(Rule, "boom"), make(Rule, "z", service="web"))
    for part in "xy":
        stage.apply(Applied(make(Rule, "boom", part=part)))
    assert stage.find("Rule", "boom") == Findings(errors=("it could not be checked: RuntimeError: boom boom",))
    assert stage.find("Rule", "z").errors == ("no service web",)
    assert [(record.levelno, record.exc_info[0]) for record in caplog.records] == [(logging.ERROR, RuntimeError)]


def test_a_checker_of_a_type_that_nothing_declares_stops_the_start():
    class Stray(Resource, frozen=True):
        pass

    with pytest.raises(PluginError, match="Stray"):
        Stage(checkers=[ReferenceChecker(ResourceKind(name="S", plural="s", api_versions=(), type=Stray), [])])


def test_a_part_that_nothing_names_has_no_effect_until_something_does():
    stage = Stage(make(Part, "x"), make(Part, "y"), make(Rule, "a", part="y", service="web"))
    assert stage.find("Part", "x") == Findings(notices=("no Rule refers to it, so it has no effect",))
    assert not stage.find("Part", "y")
    stage.apply(Applied(make(Rule, "a", part="x")))
    assert not stage.find("Part", "x")
    assert stage.find("Part", "y").notices
    stage.apply(Applied(make(Rule, "a", namespace="other", part="y")))
    assert stage.find("Part", "y").notices


def test_results_are_those_of_checking_everything_again():
    stage = Stage(make(Rule, "a", service="web"), make(Part, "x"))
    for event in (
        Applied(make(Service, "web")),
        Applied(make(Rule, "b", service="none", part="x")),
        Deleted(Rule, ObjectKey("n", "b")),
        Deleted(Service, ObjectKey("n", "web")),
        Applied(make(Part, "y")),
    ):
        stage.apply(event)
        fresh = ObjectChecks(stage.snapshot, KINDS, [RuleChecker(), *build_reference_checkers(KINDS)], TopologyRules())
        for subject in fresh.run_all({}):
            assert stage.checks.find(subject) == fresh.find(subject)


def test_an_object_that_could_not_be_read_as_it_is_meant_is_not_checked():
    stage = Stage(make(Strict, "faulty", faults=("spec.x: unknown field",)), make(Strict, "sound", faults=()))
    assert not stage.find("Strict", "faulty")
    assert stage.find("Strict", "sound").notices
    stage.apply(Applied(make(Strict, "faulty", faults=())))
    assert stage.find("Strict", "faulty").notices
