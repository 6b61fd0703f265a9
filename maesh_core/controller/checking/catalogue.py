"""The kinds of findings of the core and of the enabled plugins, and which kind a text has.

Takes checkers; raises PluginError if their codes are invalid or not unique. Plugins' patterns are tried before those of
the core, so that a plugin's own text gets its own code.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import chain

from maesh_core.controller.checking.core_kinds import (
    CORE_KINDS,
    INVALID_OBJECT,
    OTHER_ERROR,
    OTHER_NOTICE,
    OTHER_SERVICE_ERROR,
    OTHER_SERVICE_NOTICE,
)
from maesh_core.errors import PluginError
from maesh_core.plugin_system.policy_checks import FindingKind, PolicyChecker

SERVICE = "Service"
_is_code = re.compile(r"[A-Z]{2,12}[0-9]{3,4}").fullmatch
_Matcher = Callable[[str], object]


class FindingCatalogue:
    """All kinds of findings, by code."""

    def __init__(self, checkers: Iterable[PolicyChecker], describe: Callable[[object], str] = str) -> None:
        self._kinds: dict[str, FindingKind] = {kind.code: kind for kind in CORE_KINDS}
        self._matchers: list[tuple[FindingKind, _Matcher]] = []
        for checker in checkers:
            for kind in checker.finding_kinds:
                self._add(kind, describe(checker))
        self._matchers += chain.from_iterable(map(_compile, CORE_KINDS))

    def __repr__(self) -> str:
        return f"<FindingCatalogue {len(self._kinds)} kinds>"

    @property
    def kinds(self) -> Sequence[FindingKind]:
        """All kinds, sorted by code."""
        return [self._kinds[code] for code in sorted(self._kinds)]

    def get(self, code: str) -> FindingKind | None:
        """Return the kind with a code."""
        return self._kinds.get(code)

    def classify(self, object_kind: str, text: str, *, is_error: bool, is_problem: bool = False) -> FindingKind:
        """Find the kind of a text about an object; `is_problem` if the object could not be read."""
        for kind, match in self._matchers:
            if (not kind.kinds or object_kind in kind.kinds) and match(text):
                return kind
        if is_problem and is_error:
            return INVALID_OBJECT
        if object_kind == SERVICE:
            return OTHER_SERVICE_ERROR if is_error else OTHER_SERVICE_NOTICE
        return OTHER_ERROR if is_error else OTHER_NOTICE

    def _add(self, kind: FindingKind, provider: str) -> None:
        if not _is_code(kind.code):
            raise PluginError(f"{provider} has findings with the code {kind.code!r}, which is not like ACME101")
        if self._kinds.get(kind.code) == kind:
            return  # plugins can share a checker
        if kind.code in self._kinds:
            raise PluginError(f"{provider} has findings with the code {kind.code}, which others have, too")
        self._kinds[kind.code] = kind
        try:
            self._matchers += _compile(kind)
        except re.error as error:
            raise PluginError(f"{provider} has an invalid pattern for {kind.code}: {error}") from error


def _compile(kind: FindingKind) -> Iterable[tuple[FindingKind, _Matcher]]:
    if not kind.patterns:
        return []
    return [(kind, re.compile("|".join(f"(?:{each})" for each in kind.patterns)).fullmatch)]
