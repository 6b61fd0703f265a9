"""A finding of `maesh check`, and the result of a whole check. Values only."""

from typing import Final

import msgspec

from maesh_core.plugin_system.policy_checks import FindingKind, Severity

SEVERITIES: Final[tuple[Severity, ...]] = ("error", "warning", "notice")
"""Highest first."""


class Finding(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One thing that is wrong. `kind`, `namespace` and `name` are empty if it concerns no object.

    `file` is the path as the user wrote it, and `line` counts from 1; both are empty or 0 if they are not known.
    """

    code: str
    severity: Severity
    text: str
    hint: str
    kind: str = ""
    namespace: str = ""
    name: str = ""
    file: str = ""
    line: int = 0


class CheckResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """All findings, sorted by file, line and code, and what was checked."""

    findings: tuple[Finding, ...]
    services: int
    objects: int
    rules: tuple[FindingKind, ...] = ()
    """All kinds of findings that the check knows."""

    def count(self, severity: Severity) -> int:
        """Count the findings of a severity."""
        return sum(each.severity == severity for each in self.findings)

    def is_failed(self, fail_on: Severity) -> bool:
        """Whether there is a finding of this severity or a higher one."""
        failing = SEVERITIES[: SEVERITIES.index(fail_on) + 1]
        return any(each.severity in failing for each in self.findings)
