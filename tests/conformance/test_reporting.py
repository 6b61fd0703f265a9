"""The report, from results that a test makes up; and the committed one."""

from pathlib import Path

import pytest
import yaml

from .cases import load_suite
from .reporting import EXTENDED, build_report, list_counted, name_report

SUITE = load_suite()
COMMITTED = Path(__file__).resolve().parents[2] / "plugins" / "gateway" / "conformance-report.yaml"
PASSED = {case.name: "" for case in SUITE.cases}
PASSED_SHARED = {**PASSED, "MeshFrontendHostname": "it was answered by echo-v2"}


def build(results, mode="own-entrypoints"):
    return build_report(SUITE, results, mode=mode, version="2.0.0", date="2026-11-30T00:00:00Z")


def find_profile(report, name="MESH-HTTP"):
    return next(each for each in report["profiles"] if each["name"] == name)


@pytest.mark.parametrize(
    ("profile", "level", "count"),
    [("MESH-HTTP", "core", 7), ("MESH-HTTP", "extended", 7), ("MESH-GRPC", "core", 3), ("MESH-GRPC", "extended", 0)],
)
def test_cases_count_for_the_profiles_of_their_features(profile, level, count):
    assert len(list_counted(SUITE, profile, level)) == count


def test_a_report_of_passed_cases_has_all_extended_features():
    profile = find_profile(build(PASSED))
    assert profile["core"] == {"result": "success", "statistics": {"Failed": 0, "Passed": 7, "Skipped": 0}}
    assert profile["extended"]["result"] == "success"
    assert profile["extended"]["supportedFeatures"] == sorted(SUITE.profiles[EXTENDED])
    assert "unsupportedFeatures" not in profile["extended"]


def test_a_failed_case_takes_its_features_from_the_report():
    profile = find_profile(build({**PASSED, "MeshHTTPRouteRewritePath": "the path is wrong"}))
    assert profile["extended"]["result"] == "failure"
    assert profile["extended"]["failedTests"] == ["MeshHTTPRouteRewritePath"]
    assert profile["extended"]["unsupportedFeatures"] == ["MeshHTTPRouteRewritePath"]


def test_a_case_that_counts_for_no_profile_decides_about_its_feature_all_the_same():
    profile = find_profile(build({**PASSED, "MeshConsumerRoute": "no header"}))
    assert profile["extended"]["result"] == "success"
    assert profile["extended"]["unsupportedFeatures"] == ["MeshConsumerRoute"]


def test_cases_that_did_not_run_are_skipped():
    report = build({name: text for name, text in PASSED.items() if name != "MeshBasic"})
    core = find_profile(report, "MESH-GRPC")["core"]
    assert core == {
        "result": "partial",
        "statistics": {"Failed": 0, "Passed": 2, "Skipped": 1},
        "skippedTests": ["MeshBasic"],
    }


@pytest.mark.parametrize(
    ("mode", "results", "missing"),
    [("own-entrypoints", PASSED, []), ("shared-entrypoints", PASSED_SHARED, ["MeshClusterIPMatching"])],
)
def test_the_committed_reports_are_those_of_passed_cases(mode, results, missing):
    committed = yaml.safe_load(name_report(COMMITTED, mode).read_text())
    expected = build(results, mode)
    for profile in committed["profiles"]:
        assert {profile[level]["result"] for level in ("core", "extended")} == {"success"}
        assert profile["extended"].get("unsupportedFeatures", []) == missing
    for field in ("date", "implementation"):
        del committed[field], expected[field]
    assert committed == expected
