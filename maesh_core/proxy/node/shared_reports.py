"""Shares the reports of plugins among all requests of the admin port for them.

Takes the function that collects a report from the workers. A report may cost a worker, which carries traffic, some
milliseconds, and any client in the cluster may ask, so each report is collected once at a time and used for `AGE_S`.
Joins the workers' reports to one document.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

import msgspec

from maesh_core.proxy.workers.messages import Failed, Report, Reported

AGE_S: Final = 0.5
"""How long a report is used."""


class SharedReports:
    """The latest reports by name; names without a report are not remembered."""

    __slots__ = ("_clock", "_collect", "_latest", "_tasks")

    def __init__(
        self,
        collect: Callable[[str], Coroutine[Any, Any, bytes | None]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._collect = collect
        self._clock = clock
        self._latest: dict[str, tuple[float, bytes]] = {}
        self._tasks: dict[str, asyncio.Task[bytes | None]] = {}

    def __repr__(self) -> str:
        return f"<SharedReports {', '.join(sorted(self._latest)) or 'none'}>"

    async def render(self, name: str) -> bytes | None:
        """Return the report of a name, which may be `AGE_S` old; None if there is no such report."""
        known = self._latest.get(name)
        if known is not None and self._clock() < known[0]:
            return known[1]
        task = self._tasks.get(name)
        if task is None:
            task = self._tasks[name] = asyncio.create_task(self._update(name))
        return await asyncio.shield(task)  # the others still wait if one who asked leaves

    async def _update(self, name: str) -> bytes | None:
        try:
            body = await self._collect(name)
            if body is not None:
                self._latest[name] = (self._clock() + AGE_S, body)
            return body
        finally:
            del self._tasks[name]


def join_reports(answers: Sequence[Report | None]) -> bytes | None:
    """Join the workers' reports to a document; None if no worker makes such a report.

    An answer is None if the worker did not report in time.
    """
    found = [answer.body for answer in answers if isinstance(answer, Reported)]
    if not found and any(isinstance(answer, Failed) for answer in answers):
        return None
    missing = len(answers) - len(found)
    return msgspec.json.encode({"workers": [msgspec.Raw(body) for body in found], "missing": missing})
