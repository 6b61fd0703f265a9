import json
import logging

import pytest

from maesh_core.controller.reports.object_checks import Subject
from maesh_core.controller.reports.object_reports import TEXTS_LIMIT, ObjectReports
from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.controller.resources.snapshot import Snapshot
from maesh_core.controller.topology.rules import TopologyRules
from maesh_core.model.events import Applied, Deleted, Problem, Replaced
from maesh_core.model.findings import Findings, ObjectFindings
from maesh_core.model.keys import ObjectIdentity, ObjectKey
from maesh_core.model.resources import ObjectMeta, Resource, ResourceKind, Service


class Rule(Resource, frozen=True):
    """An object of a plugin's."""


KINDS = (*CORE_KINDS, ResourceKind(name="Rule", plural="rules", api_versions=("t/v2", "t/v1"), type=Rule))
WEB, API, RULE = ObjectKey("n", "web"), ObjectKey("n", "api"), ObjectKey("n", "rule")


class LonelyChecker:
    type = Rule

    def check(self, view, resource, services):
        return None if services else Findings(notices=("it concerns no service",))


class Stage:
    def __init__(self):
        self.snapshot = Snapshot(KINDS)
        self.reports = ObjectReports(self.snapshot, KINDS, [LonelyChecker()], TopologyRules())
        self.changed = []
        self.reports.on_changed(lambda subjects: self.changed.append([str(each) for each in subjects]))
        rule = Rule(metadata=ObjectMeta(name="rule", namespace="n", uid="u1"))
        web = Service(metadata=ObjectMeta(name="web", namespace="n", uid="u2"))
        self.apply(Replaced(Rule, [rule]), Replaced(Service, [web]))

    def apply(self, *events):
        self.reports.update(self.snapshot.apply(events, source="s"))

    def build(self, key, *objects, errors=(), notices=(), **more):
        self.reports.set_service(key, Findings(errors, notices), objects, **more)
        self.reports.update()

    def list(self):
        return [(each.kind, each.name, each.errors, each.notices) for each in self.reports.list_reports()]


@pytest.fixture
def stage():
    return Stage()


def about_rule(*errors, notices=()):
    return ObjectFindings(type=Rule, key=RULE, errors=errors, notices=notices)


def test_objects_of_which_nothing_is_wrong_are_not_listed(stage):
    stage.build(WEB, about_rule())
    assert stage.list() == []
    assert stage.reports.render() == b"[]"


def test_what_builds_checks_and_discovery_found_of_an_object_is_joined(stage):
    assert stage.list() == [("Rule", "rule", (), ("it concerns no service",))]
    stage.build(WEB, about_rule("bad", notices=("odd",)), errors=("closed",), notices=("hm",))
    stage.build(API, about_rule("bad", "worse"))
    stage.apply(Problem("a.yaml document 2", "is there twice", "Rule", RULE))
    assert json.loads(stage.reports.render()) == [
        {
            "kind": "Rule",
            "namespace": "n",
            "name": "rule",
            "origin": "a.yaml document 2",
            "errors": ["is there twice", "bad", "worse"],
            "notices": ["odd"],
        },
        {
            "kind": "Service",
            "namespace": "n",
            "name": "web",
            "origin": "s",
            "errors": ["closed"],
            "notices": ["hm"],
        },
    ]


def test_what_is_no_object_has_an_origin_alone(stage):
    stage.build(WEB, about_rule())
    stage.apply(Problem("sub", "no file in it", is_notice=True), Problem("a.yaml", "no YAML"))
    assert [(each.origin, each.errors, each.notices, each.name) for each in stage.reports.list_reports()] == [
        ("a.yaml", ("no YAML",), (), ""),
        ("sub", (), ("no file in it",), ""),
    ]


def test_an_object_that_cannot_be_read_is_reported_though_nothing_knows_its_kind(stage):
    stage.build(WEB, about_rule())
    stage.apply(Problem("a.yaml document 1", "did you mean Rule?", "Rul", ObjectKey("n", "x"), is_notice=True))
    assert stage.list() == [("Rul", "x", (), ("did you mean Rule?",))]
    assert stage.reports.find_identified(Subject("Rul", ObjectKey("n", "x"))) == {}
    stage.apply(Problem("a.yaml document 1", None))
    assert stage.list() == []


def test_what_a_service_found_is_gone_when_it_finds_it_no_more_or_goes(stage):
    stage.build(WEB, about_rule("bad"), errors=("closed",))
    stage.build(WEB)
    assert stage.list() == [("Rule", "rule", (), ("it concerns no service",))]
    stage.build(WEB, about_rule("bad"), errors=("closed",))
    stage.reports.forget_service(WEB)
    stage.reports.update()
    assert stage.list() == [("Rule", "rule", (), ("it concerns no service",))]


def test_errors_from_outside_of_builds_are_shown_on_services_that_there_are(stage):
    stage.build(WEB, about_rule())
    assert stage.reports.set_outside(WEB, ("no shadow",), aspect="shadow service") is True
    assert stage.reports.set_outside(WEB, ("no shadow",), aspect="shadow service") is False
    stage.reports.set_outside(WEB, ("no name",), aspect="DNS")
    stage.reports.set_outside(API, ("never built",), aspect="DNS")
    assert stage.list() == [("Service", "web", ("no shadow", "no name"), ())]
    stage.reports.set_outside(WEB, (), aspect="shadow service")
    stage.reports.set_outside(WEB, (), aspect="DNS")
    assert stage.list() == []


def test_callbacks_name_what_differs_and_nothing_else(stage):
    assert stage.changed == [["Rule rule@n"]]
    stage.build(WEB, about_rule())
    stage.build(WEB, about_rule())
    stage.build(API)
    assert stage.changed[1:] == [["Rule rule@n"]]
    stage.build(API, errors=("closed",))
    assert stage.changed[2:] == [["Service api@n"]]


def test_an_object_is_identified_by_its_uid_or_that_of_the_problem(stage):
    subject = Subject("Rule", RULE)
    found = Findings(notices=("it concerns no service",))
    assert stage.reports.find_identified(subject) == {ObjectIdentity("t/v2", "Rule", RULE, "u1"): found}
    stage.apply(Deleted(Rule, RULE), Problem("kubernetes rules rule@n", "cannot be read", "Rule", RULE, "u9"))
    found = Findings(errors=("cannot be read",))
    assert stage.reports.find_identified(subject) == {ObjectIdentity("t/v2", "Rule", RULE, "u9"): found}
    assert stage.reports.list_subjects() == [subject]


def test_findings_are_logged_once_and_when_they_are_gone_on_the_object_that_they_are_about(stage, caplog):
    assert [record.getMessage() for record in caplog.get_records("setup")] == ["Rule rule@n: it concerns no service"]
    stage.build(WEB, about_rule("bad"), notices=("Rule rule: bad; it grants nothing", "odd"))
    stage.build(WEB, about_rule("bad"), notices=("Rule rule: bad; it grants nothing", "odd"))
    stage.build(WEB, about_rule())
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "service web@n: odd",
        "Rule rule@n: bad",
        "Rule rule@n: no longer: it concerns no service",
        "service web@n: no longer: odd",
        "Rule rule@n: no longer: bad",
    ]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_problems_of_discovery_are_logged_elsewhere(stage, caplog):
    caplog.clear()
    stage.apply(Problem("a.yaml", "is there twice", "Rule", RULE))
    assert caplog.records == []


def test_an_object_of_many_services_does_not_have_a_text_for_each(stage):
    for number in range(TEXTS_LIMIT + 10):
        stage.build(ObjectKey("n", f"s{number:02}"), about_rule(notices=(f"not for s{number:02}",)))
    ((_, _, _, notices),) = stage.list()
    assert len(notices) == TEXTS_LIMIT + 1
    assert notices[-1] == "and 10 more"


def test_a_plugins_finding_of_a_type_that_nothing_declares_harms_nothing(stage):
    class Stray(Resource, frozen=True):
        pass

    stage.build(WEB, about_rule(), ObjectFindings(type=Stray, key=RULE, errors=("odd",)))
    assert stage.list() == [("Stray", "rule", ("odd",), ())]


def test_a_change_of_one_object_checks_no_other():
    stage = Stage()
    many = [Rule(metadata=ObjectMeta(name=f"r{number}", namespace="n")) for number in range(1000)]
    stage.apply(*map(Applied, many))
    before = stage.reports.check_count
    stage.apply(Applied(Rule(metadata=ObjectMeta(name="r7", namespace="n", uid="new"))))
    assert stage.reports.check_count == before + 1
    stage.apply(Applied(Service(metadata=ObjectMeta(name="s", namespace="n"))))
    assert stage.reports.check_count == before + 1
