"""Keeps the cluster's DNS as `maesh prepare` has made it: the leader puts back what an operator rewrote.

Takes a `ClusterDns`, looks at it from time to time while this controller leads, and keeps in it the rules of services
whose shadow services have other names than DNS would make of them. A cluster that was never prepared, or that was
cleaned up, is left alone.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Protocol, TypeVar

from maesh_core.errors import MaeshError
from maesh_core.model.keys import ObjectKey

LOOK_S = 10.0
"""How often DNS is looked at: four or five small reads for each look, three more for each NodeLocal DNSCache."""

PlanT = TypeVar("PlanT")
Pause = Callable[[float], Awaitable[None]]
_log = logging.getLogger(__name__)


class KeptDns(Protocol[PlanT]):
    """What is needed of the cluster's DNS."""

    async def is_prepared(self) -> bool:
        """Whether `maesh prepare` has been here, and `maesh cleanup` not since."""

    async def plan(self, exact: Mapping[ObjectKey, str] | None = None) -> PlanT:
        """Find what must be written."""

    async def apply(self, plan: PlanT) -> bool:
        """Write it; gives whether anything was."""


class Lead(Protocol):
    """Whether this controller may write."""

    @property
    def is_leader(self) -> bool: ...  # noqa: D102


class DnsKeeper:
    """Keeps one cluster's DNS. `mark` when services came or went, `run` in one task.

    `list_long` names the services that need a rule of their own, with their shadow services; `tell` hears, for each,
    whether its rule stands.
    """

    def __init__(
        self,
        dns: KeptDns[PlanT],
        lead: Lead,
        *,
        list_long: Callable[[], Mapping[ObjectKey, str]],
        tell: Callable[[ObjectKey, str], None],
        pause: Pause = asyncio.sleep,
    ) -> None:
        self._keep: Callable[[Mapping[ObjectKey, str]], Awaitable[str]] = lambda rules: _keep(dns, rules)
        self._lead = lead
        self._list_long = list_long
        self._tell = tell
        self._pause = pause
        self._rules: Mapping[ObjectKey, str] = {}
        self._told: frozenset[ObjectKey] = frozenset()
        self._failure = ""
        self._wake = asyncio.Event()

    def __repr__(self) -> str:
        return f"<DnsKeeper rules={len(self._rules)} {self._failure or 'well'}>"

    def mark(self) -> None:
        """Look at once if other services need rules now."""
        if self._list_long() != self._rules:
            self._wake.set()

    async def run(self) -> None:
        """Look and put back, forever."""
        while True:
            self._wake.clear()  # before the look: what is marked meanwhile is looked at next
            if self._lead.is_leader:
                await self.look()
            waits = [asyncio.ensure_future(self._pause(LOOK_S)), asyncio.ensure_future(self._wake.wait())]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for each in waits:
                    each.cancel()
                await asyncio.gather(*waits, return_exceptions=True)

    async def look(self) -> None:
        """Look once; what goes wrong is told in the log when it is new."""
        rules = self._rules = dict(self._list_long())
        try:
            failure = await self._keep(rules)
        except MaeshError as error:
            failure = str(error)
            if failure != self._failure:
                _log.error("the cluster's DNS cannot be kept: %s", failure)
        self._failure = failure
        self._tell_all(self._told - rules.keys(), "")
        self._tell_all(rules, f"its name is too long for DNS without a rule of its own: {failure}" if failure else "")
        self._told = frozenset(rules)

    def _tell_all(self, services: Iterable[ObjectKey], error: str) -> None:
        for service in services:
            self._tell(service, error)


async def _keep(dns: KeptDns[PlanT], rules: Mapping[ObjectKey, str]) -> str:
    """Bring DNS into the form that is wanted; gives why it was left alone, or nothing."""
    if not await dns.is_prepared():
        return "DNS is not prepared (maesh prepare)"
    if await dns.apply(await dns.plan(rules)):
        _log.warning("the cluster's DNS was put in order")
    return ""
