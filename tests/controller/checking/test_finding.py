"""Which findings fail a check."""

import pytest

from maesh_core.controller.checking.finding import CheckResult, Finding


def build(*severities):
    findings = tuple(Finding(code="MSH101", severity=each, text="x", hint="y") for each in severities)
    return CheckResult(findings=findings, services=0, objects=0)


@pytest.mark.parametrize(
    ("severities", "failing"),
    [
        ((), ()),
        (("notice",), ("notice",)),
        (("notice", "warning"), ("warning", "notice")),
        (("error",), ("error", "warning", "notice")),
    ],
)
def test_a_check_fails_from_a_severity_on(severities, failing):
    result = build(*severities)
    assert tuple(each for each in ("error", "warning", "notice") if result.is_failed(each)) == failing


def test_findings_are_counted():
    assert build("notice", "error", "error").count("error") == 2
