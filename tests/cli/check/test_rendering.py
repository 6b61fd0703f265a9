"""The text and the JSON of a check."""

import json

import pytest

from maesh_core.cli.check.rendering import render_result
from maesh_core.controller.checking.core_kinds import CORE_KINDS
from maesh_core.controller.checking.finding import CheckResult, Finding

FINDINGS = (
    Finding(code="MSH101", severity="error", text="is a broken link", hint="correct it", file="a\x1b.yaml"),
    Finding(
        code="MSH202",
        severity="warning",
        text="odd\x1b",
        hint="correct it",
        kind="Service",
        namespace="shop",
        name="web",
        file="b.yaml",
        line=3,
    ),
    Finding(code="MSH110", severity="notice", text="x", hint="y", kind="Node", name="n"),
)
RESULT = CheckResult(findings=FINDINGS, services=1, objects=2, rules=CORE_KINDS)


def test_text_shows_findings_by_file_without_control_characters():
    assert render_result(RESULT, "text").splitlines() == [
        "a\\x1b.yaml",
        "  error MSH101 is a broken link",
        "      correct it",
        "",
        "b.yaml",
        "  3: warning MSH202 Service web@shop: odd\\x1b",
        "      correct it",
        "",
        "(no file)",
        "  notice MSH110 Node n: x",
        "      y",
        "",
        "1 service, 2 objects: 1 error, 1 warning, 1 notice",
    ]


def test_json_has_all_fields():
    found = json.loads(render_result(RESULT, "json"))
    assert {name: found[name] for name in ("services", "objects", "errors", "warnings", "notices")} == {
        "services": 1,
        "objects": 2,
        "errors": 1,
        "warnings": 1,
        "notices": 1,
    }
    assert found["findings"][1]["file"] == "b.yaml"


@pytest.mark.parametrize("format_", ["sarif", "github"])
def test_other_formats_are_those_of_other_programs(format_):
    assert "MSH202" in render_result(RESULT, format_)
