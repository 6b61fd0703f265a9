"""The formats of other programs: SARIF 2.1.0 (OASIS), and the workflow commands of GitHub Actions. Pure."""

import json
import os
import urllib.parse
from hashlib import blake2b
from typing import Any, Final

from maesh_core.controller.checking.finding import CheckResult, Finding
from maesh_core.plugin_system.policy_checks import FindingKind

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS: Final = {"error": "error", "warning": "warning", "notice": "note"}
"""Severities of SARIF, section 3.27.10."""
_FINGERPRINT_BYTES = 16


def render_sarif(result: CheckResult) -> str:
    """Render a log of one run, for code scanning."""
    indexes = {kind.code: index for index, kind in enumerate(result.rules)}
    driver = {
        "name": "maesh check",
        "rules": [_render_rule(kind) for kind in result.rules],
    }
    results = [_render_sarif_result(each, indexes[each.code]) for each in result.findings]
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return json.dumps({"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]})


def _render_rule(kind: FindingKind) -> dict[str, Any]:
    return {
        "id": kind.code,
        "shortDescription": {"text": kind.title},
        "help": {"text": f"{kind.title}: {kind.hint}"},
        "defaultConfiguration": {"level": _LEVELS[kind.severity]},
    }


def _render_sarif_result(finding: Finding, index: int) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": finding.code,
        "ruleIndex": index,
        "level": _LEVELS[finding.severity],
        "message": {"text": f"{_describe(finding)} ({finding.hint})"},
        "partialFingerprints": {"maeshFinding/v1": _fingerprint(finding)},
    }
    if finding.file:
        region = {"region": {"startLine": finding.line}} if finding.line else {}
        place = {"artifactLocation": {"uri": _build_uri(finding.file)}, **region}
        result["locations"] = [{"physicalLocation": place}]
    return result


def _fingerprint(finding: Finding) -> str:
    """Build what identifies a finding although its lines move."""
    parts = (finding.code, finding.file, finding.kind, finding.namespace, finding.name, finding.text)
    return blake2b("\0".join(parts).encode(), digest_size=_FINGERPRINT_BYTES).hexdigest()


def _build_uri(file: str) -> str:
    """Build the URI of a file: relative to the current folder, if it was given so (SARIF section 3.4.3)."""
    path = os.path.normpath(file).replace(os.sep, "/")
    return urllib.parse.quote(path if not path.startswith("/") else f"file://{path}", safe="/:")


def _describe(finding: Finding) -> str:
    if not finding.name:
        return finding.text
    place = f"@{finding.namespace}" if finding.namespace else ""
    return f"{finding.kind} {finding.name}{place}: {finding.text}"


def render_github(result: CheckResult) -> str:
    """Render a workflow command for each finding: GitHub shows them as annotations of the changed lines."""
    return "\n".join(map(_render_command, result.findings))


def _render_command(finding: Finding) -> str:
    properties = {"file": finding.file and os.path.normpath(finding.file), "line": finding.line, "title": finding.code}
    shown = ",".join(f"{name}={_escape_property(str(value))}" for name, value in properties.items() if value)
    return f"::{finding.severity} {shown}::{_escape_data(f'{_describe(finding)} ({finding.hint})')}"


def _escape_data(text: str) -> str:
    """Escape a message, as the toolkit of GitHub Actions does."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escape_property(text: str) -> str:
    return _escape_data(text).replace(":", "%3A").replace(",", "%2C")
