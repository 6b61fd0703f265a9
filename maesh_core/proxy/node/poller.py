"""Pulls configurations from the controller, and applies each one, forever.

Takes a fetcher and a function that applies an update's bytes; counts pulls for the metrics. It continues after every
failure, and the proxy keeps its configuration in the meantime. It makes no routing decisions.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Protocol
from urllib.parse import quote

from maesh_core.errors import PullError, UpdateRejectedError
from maesh_core.process.backoff import Backoff
from maesh_core.proxy.node.fetch import Answer

HOLD_S = 60
"""The time for which the controller may hold a pull until there is a change."""
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
        "_backoff",
        "_clock",
        "_fetcher",
        "_find_admin_port",
        "_node",
        "_on_failure",
        "_pause",
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
        on_failure: Callable[[], None] = lambda: None,
        backoff: Backoff | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetcher = fetcher
        self._apply = apply_update
        self._node = node
        self._find_admin_port = find_admin_port
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
        answer = await self._fetcher.fetch(self._build_query(since), hold_s=0 if since is None else HOLD_S)
        if answer.status == 304 and since is not None:
            return False
        if answer.status != 200:
            raise PullError(f"the controller answered {answer.status}")
        try:
            revision = await self._apply(answer.body, since)
        except UpdateRejectedError:
            self._revision = None  # request a full configuration, since the partial one did not apply
            raise
        self._revision = revision
        return revision != since

    def _build_query(self, since: str | None) -> str:
        port = self._find_admin_port()
        node = f"node={quote(self._node, safe='')}" + (f"&admin={port}" if port else "")
        return node if since is None else f"since={quote(since, safe='')}&wait={HOLD_S}&{node}"

    def _describe(self) -> str:
        return "no configuration is applied yet" if self._revision is None else f"keeping revision {self._revision}"
