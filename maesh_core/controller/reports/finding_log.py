"""Logs each finding when it appears, and once more when it is gone.

Takes the current findings of an object, as often as they are computed, and compares them with those already logged.
Does not know where they come from.
"""

import logging
from collections.abc import Collection, Mapping

from maesh_core.model.events import Problem

_log = logging.getLogger(__name__)


class FindingLog:
    """The logged findings of services and other objects, by the name at the start of their lines."""

    __slots__ = ("_logged",)

    def __init__(self) -> None:
        self._logged: dict[str, tuple[str, ...]] = {}

    def __repr__(self) -> str:
        return f"<FindingLog {len(self._logged)} objects>"

    def update(self, name: str, texts: tuple[str, ...], *, logged: Collection[str] = ()) -> None:
        """Log the texts that are new and those that are gone; texts in `logged` have been logged already."""
        before = self._logged.get(name, ())
        for text in texts:
            if text not in before and text not in logged:
                _log.warning("%s: %s", name, text)
        for text in before:
            if text not in texts:
                _log.warning("%s: no longer: %s", name, text)
        if texts:
            self._logged[name] = texts
        else:
            self._logged.pop(name, None)


class ProblemLog:
    """Logs each problem of discovery when it appears and when it is gone: errors as errors, notices as warnings."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[str, Problem] = {}

    def __repr__(self) -> str:
        return f"<ProblemLog {len(self._known)} problems>"

    def update(self, problems: Mapping[str, Problem]) -> None:
        """Log the differences from the problems already logged."""
        if problems == self._known:
            return
        for origin, problem in problems.items():
            known = self._known.get(origin)
            if known is None or known.text != problem.text:
                _log.log(logging.WARNING if problem.is_notice else logging.ERROR, "%s: %s", origin, problem.text)
        for origin in self._known.keys() - problems.keys():
            _log.warning("%s: no longer a problem", origin)
        self._known = dict(problems)
