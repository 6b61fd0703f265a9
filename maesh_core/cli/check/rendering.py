"""Renders the result of `maesh check` as text, JSON, SARIF or annotations of GitHub Actions.

Pure. Names and texts come from manifests; in text they are shown without characters that a terminal would interpret.
"""

from collections.abc import Callable, Mapping

import msgspec

from maesh_core.cli.check.formats import render_github, render_sarif
from maesh_core.controller.checking.finding import SEVERITIES, CheckResult, Finding
from maesh_core.process.printable import escape_unprintable, show_line


def render_result(result: CheckResult, format_: str) -> str:
    """Render a result in a format: `text`, `json`, `sarif` or `github`."""
    return _RENDERERS[format_](result)


def render_text(result: CheckResult) -> str:
    """Render a line for each finding and one for its hint, by file, then the numbers."""
    lines: list[str] = []
    file = None
    for each in result.findings:
        if each.file != file:
            file = each.file
            lines += [*([""] if lines else []), escape_unprintable(file) or "(no file)"]
        lines += _render_finding(each)
    return "\n".join([*lines, *([""] if lines else []), _render_summary(result)])


def _render_finding(each: Finding) -> list[str]:
    place = f"{each.line}: " if each.line else ""
    subject = f"{each.kind} {each.name}" + (f"@{each.namespace}" if each.namespace else "") if each.name else ""
    text = show_line(f"{subject}: {each.text}" if subject else each.text)
    return [f"  {place}{each.severity} {each.code} {text}", f"      {show_line(each.hint)}"]


def _render_summary(result: CheckResult) -> str:
    counts = [(result.count(severity), severity) for severity in SEVERITIES]
    found = ", ".join(f"{count} {severity}{'' if count == 1 else 's'}" for count, severity in counts)
    objects = f"{result.services} service{'' if result.services == 1 else 's'}, {result.objects} objects"
    return f"{objects}: {found}"


def render_json(result: CheckResult) -> str:
    """Render the findings and the numbers as one JSON document."""
    document = {
        "findings": result.findings,
        "services": result.services,
        "objects": result.objects,
        "errors": result.count("error"),
        "warnings": result.count("warning"),
        "notices": result.count("notice"),
    }
    return msgspec.json.encode(document).decode()


_RENDERERS: Mapping[str, Callable[[CheckResult], str]] = {
    "text": render_text,
    "json": render_json,
    "sarif": render_sarif,
    "github": render_github,
}
