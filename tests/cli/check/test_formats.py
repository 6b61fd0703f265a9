"""SARIF and annotations of GitHub Actions."""

import json

from maesh_core.cli.check.formats import render_github, render_sarif
from maesh_core.controller.checking.core_kinds import INVALID_ANNOTATION, UNREADABLE_FILE
from maesh_core.controller.checking.finding import CheckResult, Finding

ON_SERVICE = Finding(
    code="MSH201",
    severity="error",
    text="annotation a: 100% wrong\n::notice::x",
    hint="correct it",
    kind="Service",
    namespace="shop",
    name="web",
    file="./some dir/a,b:c.yaml",
    line=7,
)
ON_FILE = Finding(code="MSH101", severity="notice", text="is a broken link", hint="h", file="/abs/a.yaml")
NOWHERE = Finding(code="MSH101", severity="warning", text="t", hint="h")
RESULT = CheckResult(
    findings=(ON_SERVICE, ON_FILE, NOWHERE), services=1, objects=2, rules=(UNREADABLE_FILE, INVALID_ANNOTATION)
)


def test_sarif_has_rules_results_and_places():
    log = json.loads(render_sarif(RESULT))
    (run,) = log["runs"]
    assert log["version"] == "2.1.0"
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["MSH101", "MSH201"]
    first, second, third = run["results"]
    assert (first["ruleId"], first["ruleIndex"], first["level"]) == ("MSH201", 1, "error")
    assert first["locations"] == [
        {
            "physicalLocation": {
                "artifactLocation": {"uri": "some%20dir/a%2Cb:c.yaml"},
                "region": {"startLine": 7},
            }
        }
    ]
    assert second["level"] == "note"
    assert second["locations"] == [{"physicalLocation": {"artifactLocation": {"uri": "file:///abs/a.yaml"}}}]
    assert "locations" not in third
    assert len({each["partialFingerprints"]["maeshFinding/v1"] for each in run["results"]}) == 3


def test_a_fingerprint_does_not_depend_on_the_line():
    moved = Finding(**{name: getattr(ON_SERVICE, name) for name in ON_SERVICE.__struct_fields__} | {"line": 9})
    logs = [
        json.loads(render_sarif(CheckResult(findings=(each,), services=1, objects=1, rules=RESULT.rules)))
        for each in (ON_SERVICE, moved)
    ]
    one, other = (log["runs"][0]["results"][0]["partialFingerprints"] for log in logs)
    assert one == other


def test_a_workflow_command_cannot_be_forged():
    lines = render_github(RESULT).splitlines()
    assert lines == [
        "::error file=some dir/a%2Cb%3Ac.yaml,line=7,title=MSH201::Service web@shop: annotation a: 100%25 wrong%0A"
        "::notice::x (correct it)",
        "::notice file=/abs/a.yaml,title=MSH101::is a broken link (h)",
        "::warning title=MSH101::t (h)",
    ]
