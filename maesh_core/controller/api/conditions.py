"""The page `/api/conditions` of the API, which has what plugins say about the whole mesh, and what reads it.

Takes the checkers of plugins; returns their conditions as JSON. Texts may come from proxies and from objects, so they
are shown as printable lines, and their number and length are limited.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Final

import msgspec

from maesh_core.errors import MaeshError
from maesh_core.plugin_system.conditions import ConditionChecker, MeshCondition
from maesh_core.plugin_system.pages import PageRequest, PageResponse
from maesh_core.process.printable import show_line

PATH: Final = "/api/conditions"
UNKNOWN: Final = "conditions-checked"
"""The condition that says what could not be checked."""
ANSWER_S: Final = 1.0
"""How long an answer is reused for further requests, because checkers may ask all proxies."""
PROBLEMS_LIMIT: Final = 20
"""Limit of the problems of one condition, and of the details; the number of the others is added."""
TEXT_LIMIT: Final = 500
"""Limit of the characters of one text."""

_log = logging.getLogger(__name__)


class Conditions:
    """Asks all checkers, and keeps the answer for a second. It is also the page."""

    path = PATH
    is_costly = True

    def __init__(
        self,
        checkers: Sequence[ConditionChecker],
        describe: Callable[[object], str],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._checkers = checkers
        self._describe = describe
        self._clock = clock
        self._lock = asyncio.Lock()
        self._answer: tuple[float, Sequence[MeshCondition]] | None = None

    def __repr__(self) -> str:
        return f"<Conditions of {len(self._checkers)} checkers>"

    async def check(self) -> Sequence[MeshCondition]:
        """Return what all checkers say now; one that raises has a problem."""
        async with self._lock:
            if self._answer is None or self._clock() - self._answer[0] >= ANSWER_S:
                found = await asyncio.gather(*map(self._run, self._checkers))
                self._answer = (self._clock(), [_show(each) for conditions in found for each in conditions])
            return self._answer[1]

    async def respond(self, request: PageRequest) -> PageResponse:
        """Answer with the conditions."""
        return PageResponse(content_type="application/json", body=msgspec.json.encode(await self.check()))

    async def _run(self, checker: ConditionChecker) -> Sequence[MeshCondition]:
        try:
            return tuple(await checker.check_conditions())
        except Exception as error:  # a plugin's code may raise anything: only its own conditions are affected
            name = self._describe(checker)
            _log.exception("the conditions of %s could not be checked", name)
            return [_build_unknown(f"{name}: {type(error).__name__}: {error}")]


async def fetch_conditions(fetch: Callable[[str], Awaitable[bytes]]) -> tuple[MeshCondition, ...]:
    """Fetch the conditions from a controller; `fetch` raises MaeshError. A controller of an earlier version has none.

    One that does not answer has a condition that says so: many proxies may be away.
    """
    try:
        return tuple(map(_show, msgspec.json.decode(await fetch(PATH), type=list[MeshCondition])))
    except (MaeshError, msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        if getattr(error, "status", None) == HTTPStatus.NOT_FOUND:
            return ()
        return (_build_unknown(f"{PATH}: {error}"),)


def _build_unknown(problem: str) -> MeshCondition:
    hint = "Look at the log of the controller; an error of a plugin concerns its authors."
    return MeshCondition(id=UNKNOWN, title="all conditions could be checked", hint=hint, problems=(show_line(problem),))


def _show(condition: MeshCondition) -> MeshCondition:
    return msgspec.structs.replace(
        condition,
        id=show_line(condition.id)[:TEXT_LIMIT],
        title=show_line(condition.title)[:TEXT_LIMIT],
        hint=show_line(condition.hint)[:TEXT_LIMIT],
        problems=_limit(condition.problems),
        found=_limit(condition.found),
    )


def _limit(texts: Sequence[str]) -> tuple[str, ...]:
    shown = tuple(show_line(text)[:TEXT_LIMIT] for text in texts[:PROBLEMS_LIMIT])
    more = len(texts) - len(shown)
    return (*shown, f"and {more} more") if more else shown
