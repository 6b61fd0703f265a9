"""The results of `maesh simulate`, as text for a person and as JUnit XML for pipelines.

Takes results; returns text or bytes. Shows the failed cases, each with what was expected, what was found, and the steps
of the explanation.
"""

import re
from collections.abc import Iterator, Sequence
from xml.etree import ElementTree

from maesh_core.controller.simulating.results import CaseResult, ScenarioResult
from maesh_core.process.printable import escape_unprintable

FAILURES_SHOWN = 50
PROBLEMS_SHOWN = 5
_INVALID_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render_results(results: Sequence[ScenarioResult]) -> str:
    """Render the results of all files."""
    lines: list[str] = []
    shown = 0
    for result in results:
        lines += _render_file(result)
        for case in result.failed:
            shown += 1
            if shown <= FAILURES_SHOWN:
                lines += _render_failure(case)
    if shown > FAILURES_SHOWN:
        lines.append(f"... and {shown - FAILURES_SHOWN} more failures, see --json")
    total = sum(len(each.cases) for each in results)
    lines += ["", f"{total - shown} passed, {shown} failed" if shown else f"{total} passed"]
    return "\n".join(map(escape_unprintable, lines))


def _render_file(result: ScenarioResult) -> Iterator[str]:
    failed = len(result.failed)
    state = f"{failed} of {len(result.cases)} failed" if failed else f"{len(result.cases)} passed"
    yield f"{result.path}: {state}"
    for origin, text in list(result.problems.items())[:PROBLEMS_SHOWN]:
        yield f"  not read and therefore ignored: {origin}: {' '.join(text.split())}"
    if len(result.problems) > PROBLEMS_SHOWN:
        yield f"  ... and {len(result.problems) - PROBLEMS_SHOWN} more, see --json"


def _render_failure(case: CaseResult) -> Iterator[str]:
    yield f"  FAILED {case.name} (request {case.place})"
    request = f"{case.method} {case.path} from {case.client} to {case.service}"
    if request != case.name:
        yield f"    {request}{''.join(f' {name}: {value}' for name, value in case.headers)}"
    yield from (f"    {failure}" for failure in case.failures)
    yield from (f"    | {step}" for step in case.found.steps)


def render_junit(results: Sequence[ScenarioResult]) -> bytes:
    """Render the results as JUnit XML: a test suite for each file."""
    root = ElementTree.Element("testsuites", name="maesh simulate")
    for result in results:
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=_clean(result.path),
            tests=str(len(result.cases)),
            failures=str(len(result.failed)),
            errors="0",
        )
        for case in result.cases:
            element = ElementTree.SubElement(
                suite, "testcase", name=_clean(case.name), classname=_clean(result.path), file=_clean(result.path)
            )
            if case.failures:
                failure = ElementTree.SubElement(element, "failure", message=_clean("; ".join(case.failures)))
                failure.text = _clean("\n".join(case.found.steps))
    found: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return found


def _clean(text: str) -> str:
    """Replace the characters that XML cannot contain."""
    return _INVALID_XML.sub("\N{REPLACEMENT CHARACTER}", text)
