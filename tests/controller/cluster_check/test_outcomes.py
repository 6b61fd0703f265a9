import pytest

from maesh_core.controller.cluster_check.outcomes import (
    DETAIL_LENGTH_LIMIT,
    DETAIL_LIMIT,
    Check,
    Report,
    SectionBuilder,
    build_report,
)
from maesh_core.errors import KubernetesError, MaeshError

CHECKS = [Check("one", "the first is well", "Mend the first."), Check("two", "the second is well", "Mend the second.")]


@pytest.fixture
def section():
    return SectionBuilder("part", CHECKS)


def test_outcomes_are_in_the_order_of_the_checks_and_those_without_one_are_left_out(section):
    section.succeed("two", "found")
    assert [each.id for each in section.build().checks] == ["two"]
    section.succeed("one")
    assert [each.id for each in section.build().checks] == ["one", "two"]


def test_a_failed_check_has_its_problems_a_hint_and_the_place_in_the_documentation(section):
    assert section.judge("one", ["it is broken"]) is False
    (found,) = section.build().checks
    assert (found.result, found.details, found.hint) == ("error", ("it is broken",), "Mend the first.")
    assert found.docs == "docs/check-cluster.md#one"


def test_a_check_without_problems_is_a_success_that_says_what_was_found_and_has_no_hint(section):
    assert section.judge("one", [], found=["3 things"]) is True
    section.warn("two", [], found=["4 things"])
    first, second = section.build().checks
    assert (first.result, first.details, first.hint, first.docs) == ("success", ("3 things",), "", "")
    assert (second.result, second.details) == ("success", ("4 things",))


def test_what_the_user_may_not_read_is_a_warning_and_any_other_error_a_failure(section):
    section.fail("one", KubernetesError("GET /x: 403 no", status=403))
    section.fail("two", MaeshError("it is away"))
    first, second = section.build().checks
    assert (first.result, first.details) == ("warning", ("this could not be checked: GET /x: 403 no",))
    assert (second.result, second.details) == ("error", ("it is away",))


def test_the_rest_is_skipped_with_the_reason(section):
    section.succeed("one")
    section.skip_rest("nobody answers")
    assert [(each.result, each.details) for each in section.build().checks] == [
        ("success", ()),
        ("skipped", ("nobody answers",)),
    ]


def test_the_number_and_the_length_of_details_are_limited(section):
    section.judge("one", ["x" * 1000, *("y" for _ in range(DETAIL_LIMIT + 4))])
    (found,) = section.build().checks
    assert len(found.details) == DETAIL_LIMIT + 1
    assert len(found.details[0]) == DETAIL_LENGTH_LIMIT
    assert found.details[-1] == "and 5 more"


@pytest.mark.parametrize(
    ("results", "expected"),
    [(["success"], True), (["warning", "skipped"], True), (["success", "error"], False), ([], True)],
)
def test_a_report_is_a_success_unless_a_check_failed(results, expected):
    sections = []
    for result in results:
        section = SectionBuilder("part", CHECKS)
        if result == "skipped":
            section.skip("one", "why")
        elif result == "warning":
            section.warn("one", ["odd"])
        else:
            section.judge("one", ["broken"] if result == "error" else [])
        sections.append(section.build())
    report = build_report([*sections, SectionBuilder("empty", CHECKS).build()])
    assert report.success is expected
    assert len(report.sections) == len(results)
    assert [report.count(result) for result in results] == [results.count(result) for result in results]


def test_a_report_without_sections_counts_nothing():
    assert Report(success=True).count("error") == 0
