"""Results are for people and for pipelines; what a terminal or XML cannot show is replaced."""

from xml.etree import ElementTree

from maesh_core.cli.simulate.report import FAILURES_SHOWN, render_junit, render_results
from maesh_core.controller.simulating.results import CaseResult, Found, ScenarioResult

CASE = CaseResult(
    name="a\x1bb",
    place=1,
    client="shop/web",
    service="shop/app",
    method="GET",
    path="/",
    headers=(("x", "1"),),
    found=Found(outcome="denied", steps=("first", "second")),
    failures=("expected: allowed, found: denied",),
)


def test_control_characters_are_escaped_and_many_failures_cut():
    result = ScenarioResult(path="p.yaml", cases=(CASE,) * (FAILURES_SHOWN + 1), problems={"f.yaml": "not\nread"})
    lines = render_results([result]).splitlines()
    assert lines[:4] == [
        f"p.yaml: {FAILURES_SHOWN + 1} of {FAILURES_SHOWN + 1} failed",
        "  not read and therefore ignored: f.yaml: not read",
        "  FAILED a\\x1bb (request 1)",
        "    GET / from shop/web to shop/app x: 1",
    ]
    assert lines[-3] == "... and 1 more failures, see --json"


def test_junit_is_valid_xml_for_any_text():
    root = ElementTree.fromstring(render_junit([ScenarioResult(path="p\x00", cases=(CASE,))]))
    assert root[0][0].get("name") == "a\N{REPLACEMENT CHARACTER}b"
    assert root[0][0][0].text == "first\nsecond"
