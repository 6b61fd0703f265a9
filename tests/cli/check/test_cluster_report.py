import pytest

from maesh_core.cli.check.cluster_report import PLAIN_MARKS, choose_marks, render_report
from maesh_core.controller.cluster_check.outcomes import Outcome, Report, Section

WELL = Outcome(id="a", title="all is well", result="success", details=("3 things",))
ILL = Outcome(
    id="b", title="DNS answers", result="error", details=("no\nanswer", "odd"), hint="Mend it.", docs="docs/x.md#b"
)
SKIPPED = Outcome(id="c", title="more is well", result="skipped", details=("nobody answers",))
ODD = Outcome(id="d", title="it lasts", result="warning", details=("it ends soon",), hint="Renew it.", docs="x#d")


def test_each_check_is_a_line_and_a_problem_has_details_a_hint_and_a_link():
    report = Report(success=False, sections=(Section(name="part", checks=(WELL, ILL, SKIPPED, ODD)),))
    assert render_report(report).splitlines() == [
        "part",
        "----",
        "√ all is well (3 things)",
        "× DNS answers",
        "    no answer",
        "    odd",
        "    hint: Mend it.",
        "    see docs/x.md#b",
        "- more is well (skipped: nobody answers)",
        "‼ it lasts",
        "    it ends soon",
        "    hint: Renew it.",
        "    see x#d",
        "",
        "× 1 check is well; 1 failed, 1 with a warning, 1 skipped",
    ]


def test_a_report_without_problems_ends_with_one_line():
    report = Report(success=True, sections=(Section(name="p", checks=(WELL, WELL)),))
    assert render_report(report).splitlines()[-1] == "√ 2 checks are well; none failed"


def test_details_that_are_too_long_for_the_line_are_below_it():
    long = Outcome(id="a", title="all is well", result="success", details=("x" * 110,))
    report = Report(success=True, sections=(Section(name="p", checks=(long,)),))
    assert render_report(report).splitlines()[2:4] == ["√ all is well", f"    {'x' * 110}"]


@pytest.mark.parametrize(("encoding", "is_plain"), [("utf-8", False), ("ascii", True), ("latin-1", True), ("x", True)])
def test_an_output_that_lacks_the_marks_gets_plain_ones(encoding, is_plain):
    assert (choose_marks(encoding) == PLAIN_MARKS) is is_plain
