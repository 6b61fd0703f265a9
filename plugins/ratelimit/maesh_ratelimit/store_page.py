"""The page `/api/ratelimit/stores` of the controller's API: whether proxies reach the stores of their limits."""

from collections.abc import Callable
from typing import Protocol

import msgspec

from maesh_core.plugin import PageRequest, PageResponse, ProxyReport
from maesh_ratelimit.store_report import REPORT_NAME, REPORT_PATH, ProxyStores, StoresDocument, read_proxy

PROXIES_LIMIT = 10_000
"""Most proxies of the document; further ones make it incomplete."""


class Reports(Protocol):
    """What gathers the reports of all proxies: the part of `ControllerNode` that the page needs."""

    async def gather_reports(self, name: str, add: Callable[[ProxyReport], None]) -> bool:
        """Call `add` with the report of each proxy; return whether all controllers named theirs."""


class StorePage:
    """Implements `ApiPage`."""

    path = REPORT_PATH
    is_costly = True

    def __init__(self, reports: Reports) -> None:
        self._reports = reports

    def __repr__(self) -> str:
        return f"<StorePage {self.path}>"

    async def respond(self, request: PageRequest) -> PageResponse:
        """Ask all proxies now."""
        body = msgspec.json.encode(await gather_stores(self._reports))
        return PageResponse(content_type="application/json", body=body)


async def gather_stores(reports: Reports) -> StoresDocument:
    """Ask all proxies for the states of their stores."""
    proxies: list[ProxyStores] = []
    missing = 0

    def add(report: ProxyReport) -> None:
        nonlocal missing
        if len(proxies) >= PROXIES_LIMIT:
            missing += 1
            return
        proxies.append(read_proxy(report.name, report.workers, report.error))
        missing += bool(proxies[-1].error) or not report.is_complete

    is_complete = await reports.gather_reports(REPORT_NAME, add)
    return StoresDocument(complete=is_complete and not missing, proxies=sorted(proxies, key=lambda each: each.name))
