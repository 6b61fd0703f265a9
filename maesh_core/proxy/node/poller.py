"""Pulls configurations from the controller, and applies each one, forever.

Takes a fetcher and a function that applies an update's bytes; counts pulls for the metrics. It continues after every
failure, and the proxy keeps its configuration in the meantime. It makes no routing decisions.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol
from urllib.parse import quote

from maesh_core.errors import PullError, UpdateRejectedError
from maesh_core.model.facts import FACT_PREFIX
from maesh_core.process.backoff import Backoff
from maesh_core.proxy.node.fetch import Answer

HOLD_S = 60
"""The time for which the controller may hold a pull until there is a change."""
REASON_LIMIT_BYTES = 200
"""So much of a refusal's text is logged."""
QUIET_S = 1.0
"""The least time between pulls that return nothing new, to protect a server that does not hold pulls."""

logger = logging.getLogger(__name__)

ApplyUpdate = Callable[[bytes, str | None], Awaitable[str]]
"""Applies an update that was pulled with `since`, and returns its revision; raises UpdateRejectedError."""


class Fetch(Protocol):
    """Sends requests to the controller."""

    async def fetch(self, query: str, *, hold_s: float = 0.0) -> Answer:
        """Send one request; raises PullError."""


class Poller:
    """The pulls of one node. `pulls` and `failures` are counters; `is_connected` means that the last pull succeeded."""

    __slots__ = (
        "_apply",
        "_are_facts_new",
        "_backoff",
        "_clock",
        "_fetcher",
        "_find_admin_port",
        "_has_admin_tls",
        "_node",
        "_on_failure",
        "_pause",
        "_read_facts",
        "_revision",
        "failures",
        "is_connected",
        "pulls",
    )

    def __init__(
        self,
        fetcher: Fetch,
        apply_update: ApplyUpdate,
        *,
        node: str,
        find_admin_port: Callable[[], int | None],
        read_facts: Callable[[], Mapping[str, str]] = dict,
        has_admin_tls: Callable[[], bool] = lambda: False,
        on_failure: Callable[[], None] = lambda: None,
        backoff: Backoff | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetcher = fetcher
        self._apply = apply_update
        self._node = node
        self._find_admin_port = find_admin_port
        self._read_facts = read_facts
        self._are_facts_new = asyncio.Event()
        self._has_admin_tls = has_admin_tls
        self._on_failure = on_failure
        self._backoff = backoff or Backoff()
        self._pause = pause
        self._clock = clock
        self._revision: str | None = None
        self.pulls = 0
        self.failures = 0
        self.is_connected = False

    def __repr__(self) -> str:
        """Show the revision and the counters."""
        return f"<Poller has {self._revision}, {self.pulls} pulls, {self.failures} failures>"

    def report_facts(self) -> None:
        """Report the facts that `read_facts` returns now: a pull that the controller holds is sent again."""
        self._are_facts_new.set()

    async def run(self) -> None:
        """Pull until cancelled."""
        has_failed = False
        while True:
            started_s = self._clock()
            try:
                has_news = await self._pull()
            except (PullError, UpdateRejectedError) as error:
                self.is_connected = False
                self.failures += 1
                self._on_failure()
                if not has_failed:
                    logger.error("cannot pull from the controller, %s: %s", self._describe(), error)
                has_failed = True
                await self._pause(self._backoff.next())
                continue
            if has_failed:
                logger.warning("pulling from the controller works again, %s", self._describe())
            has_failed = False
            self.is_connected = True
            self._backoff.reset()
            if not has_news and self._clock() - started_s < QUIET_S:
                await self._pause(QUIET_S)

    async def _pull(self) -> bool:
        """Send one pull and apply the result; return whether it was new."""
        since = self._revision
        self.pulls += 1
        answer = await self._fetch(since)
        if answer is None:
            return False
        if answer.status == 304 and since is not None:
            return False
        if answer.status != 200:
            raise PullError(f"the controller answered {answer.status}: {_show_line(answer.body)}")
        try:
            revision = await self._apply(answer.body, since)
        except UpdateRejectedError:
            self._revision = None  # request a full configuration, since the partial one did not apply
            raise
        self._revision = revision
        return revision != since

    async def _fetch(self, since: str | None) -> Answer | None:
        """Send one pull; None if it was ended because there are new facts to report."""
        self._are_facts_new.clear()
        query = self._build_query(since)
        if since is None:
            return await self._fetcher.fetch(query)
        fetching = asyncio.ensure_future(self._fetcher.fetch(query, hold_s=HOLD_S))
        changing = asyncio.ensure_future(self._are_facts_new.wait())
        try:
            await asyncio.wait((fetching, changing), return_when=asyncio.FIRST_COMPLETED)
            return fetching.result() if fetching.done() else None
        finally:
            for task in (fetching, changing):
                task.cancel()
            await asyncio.gather(fetching, changing, return_exceptions=True)

    def _build_query(self, since: str | None) -> str:
        port = self._find_admin_port()
        node = f"node={quote(self._node, safe='')}" + (f"&admin={port}" if port else "")
        node += "&admin-tls=1" if port and self._has_admin_tls() else ""
        node += "".join(f"&{FACT_PREFIX}{name}={quote(text, safe='')}" for name, text in self._read_facts().items())
        return node if since is None else f"since={quote(since, safe='')}&wait={HOLD_S}&{node}"

    def _describe(self) -> str:
        return "no configuration is applied yet" if self._revision is None else f"keeping revision {self._revision}"


def _show_line(body: bytes) -> str:
    """Show the beginning of a refusal, which anything may have sent."""
    text = body[:REASON_LIMIT_BYTES].decode("utf-8", "replace").partition("\n")[0]
    return "".join(each if each.isprintable() else "?" for each in text) or "no reason given"
