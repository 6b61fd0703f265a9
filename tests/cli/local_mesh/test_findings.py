"""What `maesh up` shows on its first screen is there once, and nothing is lost where that screen never comes."""

import logging

import pytest

from maesh_core.cli.local_mesh.findings import HELD_LOGGER, HeldFindings, is_one_terminal


class Collector(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


@pytest.fixture
def handler():
    """Return a handler that keeps what is logged."""
    collector = Collector()
    logging.getLogger().addHandler(collector)
    yield collector
    logging.getLogger().removeHandler(collector)


@pytest.fixture
def lines(handler):
    return handler.lines


@pytest.fixture
def findings(handler):
    return HeldFindings()


def tell(text):
    logging.getLogger(HELD_LOGGER).warning(text)


def test_what_was_shown_is_not_logged_and_what_comes_later_is(findings, handler, lines):
    findings.begin([handler])
    tell("shown")
    findings.drop()
    tell("later")
    assert lines == ["later"]


def test_without_a_report_all_of_it_is_logged_in_its_order(findings, handler, lines):
    findings.begin([handler])
    tell("first")
    tell("second")
    assert lines == []
    findings.release()
    findings.release()
    assert lines == ["first", "second"]


def test_an_error_of_anything_else_has_what_came_before_it_logged(findings, handler, lines):
    findings.begin([handler])
    tell("first")
    logging.getLogger("other").warning("a warning")
    logging.getLogger("other").error("an error")
    tell("second")
    assert lines == ["a warning", "first", "an error", "second"]


def test_nothing_is_held_before_it_begins(findings, lines):
    tell("first")
    findings.drop()
    assert lines == ["first"]


@pytest.mark.parametrize(("out", "err"), [(True, True), (True, False), (False, True), (False, False)])
def test_it_is_one_terminal_only_where_both_outputs_are(monkeypatch, out, err):
    monkeypatch.setattr("sys.stdout.isatty", lambda: out, raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: err, raising=False)
    assert is_one_terminal() is (out and err)
