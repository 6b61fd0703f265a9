"""The current configuration of a node: applied by every worker, with the sockets that the parent has bound.

Takes updates as they were pulled, and introduces new workers. An update is applied when every live worker has applied
it; if one refuses it, it is rejected. A lock serialises changes, so an update and a new worker never interfere.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping

from maesh_core.errors import UpdateRejectedError
from maesh_core.proxy.node.encoded_configuration import EncodedConfiguration
from maesh_core.proxy.node.entrypoints import Entrypoints
from maesh_core.proxy.routing.refusals import RefusedRouter, log_refused, sort_refused
from maesh_core.proxy.routing.wanted_entrypoint import WantedEntrypoint
from maesh_core.proxy.workers.link import WorkerLink
from maesh_core.proxy.workers.messages import Applied, ApplyUpdate, Failed, Report
from maesh_core.proxy.workers.pool import WorkerPool

logger = logging.getLogger(__name__)


class NodeConfiguration:
    """The configuration of a node. `applied` and `rejected` count updates. Create it in the event loop."""

    __slots__ = (
        "_clock",
        "_entrypoints",
        "_lock",
        "_pool",
        "_refused",
        "_share",
        "applied",
        "applied_at_s",
        "changed",
        "encoded",
        "rejected",
        "share_names",
    )

    def __init__(
        self,
        pool: WorkerPool,
        entrypoints: Entrypoints,
        *,
        share: Callable[[Mapping[str, bytes]], None] = lambda _: None,
        share_names: Callable[[frozenset[str]], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._pool = pool
        self._share = share
        self.share_names = share_names
        self._entrypoints = entrypoints
        self._clock = clock
        self._lock = asyncio.Lock()
        self._refused: Mapping[str, str] = {}
        self.encoded = EncodedConfiguration()
        self.applied = 0
        self.applied_at_s = 0.0
        self.rejected = 0
        self.changed = asyncio.Event()

    def __repr__(self) -> str:
        """Show the current configuration."""
        return f"<NodeConfiguration {self.revision}, {len(self._refused)} refused>"

    @property
    def revision(self) -> str | None:
        """The current revision; None before the first update."""
        return self.encoded.revision

    @property
    def refused_count(self) -> int:
        """The number of routers that the workers refuse."""
        return len(self._refused)

    def render(self) -> bytes | None:
        """Encode the configuration as a full update, as a controller sends it; None before the first update."""
        return None if self.revision is None else self.encoded.render()

    async def apply(self, body: bytes, since: str | None) -> str:
        """Apply an update that was pulled with `since`, and return its revision. Raises UpdateRejectedError.

        The first update also raises StartupError if a port cannot be opened. Waits until there is a worker.
        """
        while True:
            await self._pool.has_joined.wait()
            async with self._lock:
                if self._pool.joined:
                    return await self._apply(body, since)

    async def apply_first(self, body: bytes) -> bool:
        """Apply a full configuration unless one was applied before; return whether it was applied."""
        await self._pool.has_joined.wait()
        async with self._lock:
            if self.applied or not self._pool.joined:
                return False
            await self._apply(body, None)
            return True

    async def introduce(self, link: WorkerLink) -> None:
        """Send a new worker the configuration and its sockets, and join it to the pool."""
        async with self._lock:
            if self.revision is not None:
                report = await self._pool.ask(link, ApplyUpdate(since=None), payload=self.encoded.render())
                if isinstance(report, Failed):
                    raise ValueError(f"it refused the current configuration: {report.text}")
            await self._entrypoints.hand_over(link)

    def list_refused(self) -> list[RefusedRouter]:
        """Return all refused routers, including those of closed entrypoints."""
        refused = dict(self._refused)
        for entrypoint, reason in self._entrypoints.closed.items():
            for path in self.encoded.find_routers(entrypoint.protocol, entrypoint.port):
                refused[path] = reason
        return sort_refused(refused)

    async def _apply(self, body: bytes, since: str | None) -> str:
        try:
            encoded = self.encoded.merge(body, since)
            reports = await self._pool.ask_all(ApplyUpdate(since=since), payload=body)
            wanted = self._judge(reports.values())
        except UpdateRejectedError:
            self.rejected += 1
            raise
        await self._entrypoints.apply(wanted, is_first=not self.applied)
        self.encoded = encoded
        self._share(encoded.list_shared())
        if self.share_names is not None:
            self.share_names(encoded.list_names())
        self.applied += 1
        self.applied_at_s = self._clock()
        logger.info("applied revision %s, %d entrypoints", encoded.revision, len(self._entrypoints.opened))
        self.changed.set()
        return encoded.revision or ""

    def _judge(self, reports: Iterable[Report]) -> frozenset[WantedEntrypoint]:
        """Return the entrypoints to open if all workers have applied the update. Raises UpdateRejectedError."""
        wanted: frozenset[WantedEntrypoint] | None = None
        refused: Mapping[str, str] | None = None
        for report in reports:
            if isinstance(report, Failed):
                raise UpdateRejectedError(report.text)
            if isinstance(report, Applied):
                wanted = frozenset(report.entrypoints)
                refused = report.refused if report.refused is not None else refused
        if wanted is None:
            raise UpdateRejectedError("every worker ended while applying it")
        if refused is not None:
            log_refused(self._refused, refused)
            self._refused = refused
        return wanted
