"""The page `/api/acl/suggestions`: the report of denials, with the TrafficTargets that would allow them.

Takes the page of the report and the controller's topology. Builds one answer at a time, in a thread, because a large
mesh takes seconds, and uses it for some time. Answers 503 if the topology cannot be read.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, Protocol

import msgspec

from maesh_acl.denials.report import DenialReport
from maesh_acl.suggesting import PathOptions, suggest
from maesh_acl.suggesting.paths import EVIDENCE
from maesh_acl.suggesting.reading import read_report
from maesh_acl.suggesting.rendering import render_document, render_suggestion
from maesh_core.plugin import PageRequest, PageResponse

SUGGESTIONS_PATH: Final = "/api/acl/suggestions"
ANSWER_S: Final = 5.0
"""How long an answer is reused for further requests."""
DENIALS_LIMIT: Final = 2000
"""Denials of an answer, the most frequent ones. The suggestions consider all."""
SUGGESTIONS_LIMIT: Final = 500
"""Suggestions of an answer, those for the most requests; `maesh acl suggest` prints all."""


class Topology(Protocol):
    """The part of `ControllerNode` that is used."""

    def render_topology(self) -> bytes: ...  # noqa: D102


class Reporter(Protocol):
    """What gathers the report."""

    async def build_report(self) -> DenialReport: ...  # noqa: D102


class SuggestionPage:
    """The page. Its answers are for the dashboard."""

    path = SUGGESTIONS_PATH
    is_costly = True

    def __init__(
        self, controller: Topology, reporter: Reporter, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._controller = controller
        self._reporter = reporter
        self._clock = clock
        self._lock = asyncio.Lock()
        self._answers: dict[tuple[bool, bool], tuple[float, bytes]] = {}
        """Answers by what was asked for, and when each becomes old."""

    def __repr__(self) -> str:
        return f"<SuggestionPage {self.path}>"

    async def respond(self, request: PageRequest) -> PageResponse:
        """Answer as JSON; `denied=true` also considers what was denied, `exact=true` writes paths without variables."""
        asked = (request.query.get("denied") == "true", request.query.get("exact") == "true")
        try:
            body = await self._answer(asked)
        except msgspec.ValidationError as error:
            text = f"the topology cannot be read: {error}\n"
            return PageResponse(status=HTTPStatus.SERVICE_UNAVAILABLE, body=text.encode())
        return PageResponse(content_type="application/json", headers={"Cache-Control": "no-store"}, body=body)

    async def _answer(self, asked: tuple[bool, bool]) -> bytes:
        async with self._lock:
            known = self._answers.get(asked)
            if known is not None and self._clock() < known[0]:
                return known[1]
            report = await self._reporter.build_report()
            topology = self._controller.render_topology()
            body = await asyncio.to_thread(build_answer, topology, report, with_denied=asked[0], is_exact=asked[1])
            self._answers[asked] = (self._clock() + ANSWER_S, body)
            return body


def build_answer(topology: bytes, report: DenialReport, *, with_denied: bool, is_exact: bool) -> bytes:
    """Build the answer of the page. Raises msgspec.ValidationError if the topology is none."""
    options = PathOptions(evidence=0 if is_exact else EVIDENCE)
    document: Mapping[str, Any] = msgspec.json.decode(topology, type=dict[str, Any])
    found = suggest(document, read_report(report, with_denied=with_denied), options)
    chosen = sorted(found.suggestions, key=lambda each: -each.rule.count)[:SUGGESTIONS_LIMIT]
    denials = sorted(report.denials, key=lambda each: -each.count)[:DENIALS_LIMIT]
    more = len(report.denials) - len(denials) + len(found.suggestions) - len(chosen)
    shown = msgspec.structs.replace(found, suggestions=tuple(chosen))
    rendered = render_document(shown)
    for each, suggestion in zip(rendered["suggestions"], chosen, strict=True):
        each["yaml"] = render_suggestion(suggestion)
    return msgspec.json.encode(
        {"report": msgspec.structs.replace(report, denials=tuple(denials)), **rendered, "more": more}
    )
