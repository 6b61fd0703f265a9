import logging

from maesh_core.controller.reports.finding_log import FindingLog, ProblemLog
from maesh_core.model.events import Problem


def list_lines(caplog):
    return [(record.levelno, record.getMessage()) for record in caplog.records]


def test_a_finding_is_logged_when_it_appears_and_when_it_is_gone_and_not_between(caplog):
    log = FindingLog()
    for texts in ((), ("bad",), ("bad",), ("bad", "odd"), ("odd",), ("odd",), (), ("bad",)):
        log.update("service a@n", texts)
    assert list_lines(caplog) == [
        (logging.WARNING, "service a@n: bad"),
        (logging.WARNING, "service a@n: odd"),
        (logging.WARNING, "service a@n: no longer: bad"),
        (logging.WARNING, "service a@n: no longer: odd"),
        (logging.WARNING, "service a@n: bad"),
    ]


def test_equal_findings_of_two_objects_are_two(caplog):
    log = FindingLog()
    for name in ("a", "b"):
        log.update(name, ("bad",))
    assert [text for _, text in list_lines(caplog)] == ["a: bad", "b: bad"]


def test_what_has_a_line_already_is_logged_only_when_it_is_gone(caplog):
    log = FindingLog()
    log.update("a", ("failed",), logged=("failed",))
    log.update("a", ())
    assert [text for _, text in list_lines(caplog)] == ["a: no longer: failed"]


def test_a_problem_is_logged_when_it_appears_changes_and_goes(caplog):
    log = ProblemLog()
    for told in ({}, {"f": "bad"}, {"f": "bad"}, {"f": "worse"}, {"f": "worse", "g": "bad"}, {"g": "bad"}):
        log.update({origin: Problem(origin, text) for origin, text in told.items()})
    assert list_lines(caplog) == [
        (logging.ERROR, "f: bad"),
        (logging.ERROR, "f: worse"),
        (logging.ERROR, "g: bad"),
        (logging.WARNING, "f: no longer a problem"),
    ]


def test_a_notice_of_discovery_is_a_warning(caplog):
    ProblemLog().update({"f": Problem("f", "skipped", is_notice=True)})
    assert list_lines(caplog) == [(logging.WARNING, "f: skipped")]
