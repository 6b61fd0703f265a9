"""The results of checks, as values. Pure: independent of what is checked, and of how results are shown."""

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from maesh_core.errors import KubernetesError, MaeshError

Result = Literal["success", "warning", "error", "skipped"]
SUCCESS: Final = "success"
WARNING: Final = "warning"
ERROR: Final = "error"
SKIPPED: Final = "skipped"
DETAIL_LIMIT: Final = 20
"""Details of one line; the number of the others is added."""
DETAIL_LENGTH_LIMIT: Final = 500
"""Characters of one detail."""
FORBIDDEN: Final = 403
PAGE: Final = "docs/check-cluster.md"
"""The page that describes each check, at the anchor of its id."""


class Check(msgspec.Struct, frozen=True):
    """One thing that the mesh needs: a stable id, what is true if all is well, and what to do if it is not."""

    id: str
    title: str
    hint: str


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What one check has found. `details` are problems, or what was found if there is none."""

    id: str
    title: str
    result: Result
    details: tuple[str, ...] = ()
    hint: str = ""
    docs: str = ""


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """The outcomes of one part of the mesh."""

    name: str
    checks: tuple[Outcome, ...] = ()


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The outcomes of all checks. `success`: no check found an error."""

    success: bool
    sections: tuple[Section, ...] = ()

    def count(self, result: Result) -> int:
        """Count the outcomes with a result."""
        return sum(outcome.result == result for section in self.sections for outcome in section.checks)


class SectionBuilder:
    """Collects the outcomes of one section, one for each of its checks, in their order."""

    __slots__ = ("_checks", "_name", "_outcomes")

    def __init__(self, name: str, checks: Sequence[Check]) -> None:
        self._name = name
        self._checks = {check.id: check for check in checks}
        self._outcomes: dict[str, Outcome] = {}

    def __repr__(self) -> str:
        return f"<SectionBuilder {self._name}: {len(self._outcomes)} of {len(self._checks)}>"

    def succeed(self, check_id: str, *details: str) -> None:
        """Record that the check passed, with what it found."""
        self._keep(check_id, SUCCESS, details)

    def judge(self, check_id: str, problems: Sequence[str], *, found: Sequence[str] = ()) -> bool:
        """Record that a check failed for these problems, or that it passed if there are none; return whether it did."""
        self._keep(check_id, ERROR if problems else SUCCESS, problems or found)
        return not problems

    def warn(self, check_id: str, problems: Sequence[str], *, found: Sequence[str] = ()) -> None:
        """Record a warning about these problems, or that the check passed if there are none."""
        self._keep(check_id, WARNING if problems else SUCCESS, problems or found)

    def fail(self, check_id: str, error: MaeshError | str) -> None:
        """Record that a check failed, or a warning if the user may not read what it needs."""
        is_forbidden = isinstance(error, KubernetesError) and error.status == FORBIDDEN
        if is_forbidden:
            self._keep(check_id, WARNING, (f"this could not be checked: {error}",))
        else:
            self._keep(check_id, ERROR, (str(error),))

    def skip(self, check_id: str, reason: str) -> None:
        """Record that a check was skipped."""
        self._keep(check_id, SKIPPED, (reason,))

    def skip_rest(self, reason: str) -> None:
        """Skip all checks without an outcome."""
        for check_id in self._checks:
            if check_id not in self._outcomes:
                self.skip(check_id, reason)

    def build(self) -> Section:
        """Return the section: the checks without an outcome are left out, because they do not concern this mesh."""
        return Section(
            name=self._name,
            checks=tuple(self._outcomes[check_id] for check_id in self._checks if check_id in self._outcomes),
        )

    def _keep(self, check_id: str, result: Result, details: Sequence[str]) -> None:
        check = self._checks[check_id]
        shown = [_cut(text) for text in details[:DETAIL_LIMIT]]
        if len(details) > DETAIL_LIMIT:
            shown.append(f"and {len(details) - DETAIL_LIMIT} more")
        is_ill = result in (WARNING, ERROR)
        self._outcomes[check_id] = Outcome(
            id=check_id,
            title=check.title,
            result=result,
            details=tuple(shown),
            hint=check.hint if is_ill else "",
            docs=f"{PAGE}#{check_id}" if is_ill else "",
        )


def build_report(sections: Sequence[Section]) -> Report:
    """Build the report of all sections that have an outcome."""
    kept = tuple(section for section in sections if section.checks)
    return Report(
        success=not any(outcome.result == ERROR for section in kept for outcome in section.checks), sections=kept
    )


def _cut(text: str) -> str:
    return text if len(text) <= DETAIL_LENGTH_LIMIT else f"{text[: DETAIL_LENGTH_LIMIT - 1]}…"
