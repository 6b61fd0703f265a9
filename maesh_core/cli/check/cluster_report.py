"""Renders the report of `maesh check --cluster` as text: a line for each check, with a hint below one that failed.

Takes a report; returns text, in the manner of `linkerd check`. Pure.
"""

import textwrap
from collections.abc import Iterator, Mapping

from maesh_core.controller.cluster_check.outcomes import (
    ERROR,
    SKIPPED,
    SUCCESS,
    WARNING,
    Outcome,
    Report,
    Result,
    Section,
)

MARKS: Mapping[str, str] = {SUCCESS: "√", WARNING: "‼", ERROR: "×", SKIPPED: "-"}
PLAIN_MARKS: Mapping[str, str] = {SUCCESS: "ok", WARNING: "!!", ERROR: "xx", SKIPPED: "--"}
"""For a terminal or file whose encoding lacks the others."""
WIDTH = 116
"""Characters of a line; longer details stay on lines of their own."""


def render_report(report: Report, *, encoding: str = "utf-8") -> str:
    """Render a report; `encoding` is that of the output."""
    marks = choose_marks(encoding)
    parts = ["\n".join(_render_section(section, marks)) for section in report.sections]
    return "\n\n".join([*parts, _render_result(report, marks)])


def choose_marks(encoding: str) -> Mapping[str, str]:
    """Choose marks that the encoding can express."""
    try:
        "".join(MARKS.values()).encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return PLAIN_MARKS
    return MARKS


def _render_section(section: Section, marks: Mapping[str, str]) -> Iterator[str]:
    yield section.name
    yield "-" * len(section.name)
    for outcome in section.checks:
        yield from _render_outcome(outcome, marks)


def _render_outcome(outcome: Outcome, marks: Mapping[str, str]) -> Iterator[str]:
    mark = marks[outcome.result]
    if outcome.result == SKIPPED:
        yield f"{mark} {outcome.title} (skipped: {'; '.join(outcome.details)})"
        return
    if outcome.result == SUCCESS:
        joined = ", ".join(outcome.details)
        line = f"{mark} {outcome.title}{f' ({joined})' if joined else ''}"
        if len(line) <= WIDTH:
            yield line
            return
    yield f"{mark} {outcome.title}"
    yield from (f"    {' '.join(text.split())}" for text in outcome.details)
    if outcome.hint:
        yield from textwrap.wrap(f"hint: {outcome.hint}", WIDTH, initial_indent="    ", subsequent_indent="    ")
        yield f"    see {outcome.docs}"


def _render_result(report: Report, marks: Mapping[str, str]) -> str:
    names: dict[Result, str] = {ERROR: "failed", WARNING: "with a warning", SKIPPED: "skipped"}
    counts = [(report.count(result), name) for result, name in names.items()]
    shown = ", ".join(f"{count} {name}" for count, name in counts if count) or "none failed"
    result = ERROR if not report.success else WARNING if report.count(WARNING) else SUCCESS
    count = report.count(SUCCESS)
    return f"{marks[result]} {count} {'check is' if count == 1 else 'checks are'} well; {shown}"
