"""Gathers a plugin's reports from all proxies of the mesh, by their admin ports.

Takes a finder of proxies and a client; passes on each proxy's report, or the error for which it is missing. The number
of proxies, the size of their answers, the memory for them, and the whole time are limited.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import Final, Protocol

import msgspec

from maesh_core.controller.mesh_proxies.finder import NOT_PULLING, Finder
from maesh_core.errors import NodeUnreachableError
from maesh_core.model.messages import NodeReport
from maesh_core.plugin_system.reports import REPORT_LIMIT_BYTES, ProxyReport

PROXIES_LIMIT: Final = 500
"""Limit of proxies that are asked."""
CONCURRENCY: Final = 8
"""Limit of concurrent requests, and so of reports in memory."""
DEADLINE_S: Final = 5.0
"""Limit of the time for all proxies."""
TIMEOUT_S: Final = 2.0
"""Limit of the time for one proxy."""

NOT_ASKED: Final = f"not asked: only {PROXIES_LIMIT} proxies are"
NO_TIME: Final = f"not asked: the other proxies took {DEADLINE_S:g} s"
NO_REPORT: Final = "the proxy's answer is not a report"


class ReportFetcher(Protocol):
    """Sends requests to proxies."""

    async def fetch_report(self, proxy: NodeReport, name: str, *, limit_bytes: int) -> bytes:
        """Fetch a report of a proxy's workers; raises NodeUnreachableError."""


class _NodeReport(msgspec.Struct):
    """What a proxy answers: the reports of its workers, and how many workers have not made one."""

    workers: tuple[msgspec.Raw, ...]
    missing: int


_DECODER = msgspec.json.Decoder(_NodeReport)


class ReportGatherer:
    """Gathers reports on request."""

    __slots__ = ("_deadline_s", "_fetcher", "_finder")

    def __init__(self, finder: Finder, fetcher: ReportFetcher, *, deadline_s: float = DEADLINE_S) -> None:
        self._finder = finder
        self._fetcher = fetcher
        self._deadline_s = deadline_s

    def __repr__(self) -> str:
        return f"<ReportGatherer of {self._finder!r}>"

    async def gather(self, name: str, add: Callable[[ProxyReport], None]) -> bool:
        """Call `add` with the report of each proxy, as it arrives; return whether all controllers named theirs."""
        known = await self._finder.find()
        missing = {each.name: NO_TIME if each.is_active else NOT_PULLING for each in known.proxies}
        active = [each for each in known.proxies if each.is_active]
        missing.update({each.name: NOT_ASKED for each in active[PROXIES_LIMIT:]})
        waiting = iter(active[:PROXIES_LIMIT])

        async def ask_some(waiting: Iterator[NodeReport]) -> None:
            for proxy in waiting:
                report = await self._ask(proxy, name)
                del missing[proxy.name]
                add(report)

        try:
            async with asyncio.timeout(self._deadline_s), asyncio.TaskGroup() as group:
                for _ in range(CONCURRENCY):
                    group.create_task(ask_some(waiting))
        except TimeoutError:
            pass  # those that have not answered are still in `missing`
        for proxy, error in sorted(missing.items()):
            add(ProxyReport(name=proxy, error=error))
        return not known.missing

    async def _ask(self, proxy: NodeReport, name: str) -> ProxyReport:
        try:
            body = await self._fetcher.fetch_report(proxy, name, limit_bytes=REPORT_LIMIT_BYTES)
            found = _DECODER.decode(body)
        except NodeUnreachableError as error:
            return ProxyReport(name=proxy.name, error=str(error))
        except (msgspec.DecodeError, RecursionError):
            return ProxyReport(name=proxy.name, error=NO_REPORT)
        return ProxyReport(name=proxy.name, workers=found.workers, is_complete=not found.missing)
