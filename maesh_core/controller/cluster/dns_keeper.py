"""Keeps the cluster's DNS as `maesh prepare` configured it: the leader repairs what somebody has overwritten.

Takes a `ClusterDns` and checks it periodically while this controller leads. It also maintains the rules of services
whose shadow services have other names than the general rule produces. A cluster that is not prepared, or that was
cleaned up, is not changed.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Protocol, TypeVar

from maesh_core.errors import MaeshError
from maesh_core.model.keys import ObjectKey

CHECK_S = 10.0
"""Interval between two checks, each of which makes four or five small reads, and three more for each NodeLocal
DNSCache."""

PlanT = TypeVar("PlanT")
Pause = Callable[[float], Awaitable[None]]
_log = logging.getLogger(__name__)


class RepairableDns(Protocol[PlanT]):
    """The methods used of the cluster's DNS."""

    async def is_prepared(self) -> bool:
        """Whether `maesh prepare` has run, and `maesh cleanup` has not run since."""

    async def plan(self, exact: Mapping[ObjectKey, str] | None = None) -> PlanT:
        """Compute the changes to write."""

    async def apply(self, plan: PlanT) -> bool:
        """Write the changes; return whether there were any."""


class Leadership(Protocol):
    """Whether this controller may write."""

    @property
    def is_leader(self) -> bool: ...  # noqa: D102


class DnsKeeper:
    """Keeps one cluster's DNS. Call `mark` when services were added or removed, and `run` in one task.

    `list_long` returns the services that need a rule of their own, with their shadow services. `report` is called for
    each of them with an error, or an empty text if its rule is in place.
    """

    def __init__(
        self,
        dns: RepairableDns[PlanT],
        leadership: Leadership,
        *,
        list_long: Callable[[], Mapping[ObjectKey, str]],
        report: Callable[[ObjectKey, str], None],
        pause: Pause = asyncio.sleep,
    ) -> None:
        self._repair: Callable[[Mapping[ObjectKey, str]], Awaitable[str]] = lambda rules: self._repair_once(dns, rules)
        self._leadership = leadership
        self._list_long = list_long
        self._report = report
        self._pause = pause
        self._rules: Mapping[ObjectKey, str] = {}
        self._reported: frozenset[ObjectKey] = frozenset()
        self._failure = ""
        self._has_failed = False
        self.repairs = 0
        """How often the cluster's DNS was changed."""
        self._wake = asyncio.Event()

    def __repr__(self) -> str:
        return f"<DnsKeeper rules={len(self._rules)} {self._failure or 'well'}>"

    @property
    def is_failing(self) -> bool:
        """Whether the last check failed. A cluster that is not prepared is no failure."""
        return self._has_failed

    def mark(self) -> None:
        """Check at once if other services need rules than before."""
        if self._list_long() != self._rules:
            self._wake.set()

    async def run(self) -> None:
        """Check and repair, forever."""
        while True:
            self._wake.clear()  # cleared before the check: what is marked during a check is handled by the next one
            if self._leadership.is_leader:
                await self.check()
            waits = [asyncio.ensure_future(self._pause(CHECK_S)), asyncio.ensure_future(self._wake.wait())]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for each in waits:
                    each.cancel()
                await asyncio.gather(*waits, return_exceptions=True)

    async def check(self) -> None:
        """Check once; a new failure is logged."""
        rules = self._rules = dict(self._list_long())
        try:
            failure = await self._repair(rules)
        except MaeshError as error:
            failure = str(error)
            if failure != self._failure:
                _log.error("the cluster's DNS cannot be updated: %s", failure)
            self._has_failed = True
        else:
            if self._has_failed:
                _log.warning("the cluster's DNS can be updated again")
            self._has_failed = False
        self._failure = failure
        self._report_all(self._reported - rules.keys(), "")
        self._report_all(rules, f"its name is too long for DNS without a rule of its own: {failure}" if failure else "")
        self._reported = frozenset(rules)

    def _report_all(self, services: Iterable[ObjectKey], error: str) -> None:
        for service in services:
            self._report(service, error)

    async def _repair_once(self, dns: RepairableDns[PlanT], rules: Mapping[ObjectKey, str]) -> str:
        """Repair DNS; return the reason why it was not changed, or an empty text."""
        if not await dns.is_prepared():
            return "DNS is not prepared (maesh prepare)"
        if await dns.apply(await dns.plan(rules)):
            self.repairs += 1
            _log.warning("the cluster's DNS was repaired")
        return ""
