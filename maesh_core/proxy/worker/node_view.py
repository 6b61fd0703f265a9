"""What a plugin's half in the proxy may know and use of the process it runs in, and of the node that this is part of.

Made once for each worker, in its event loop. Implements `interfaces.Node`.
"""

import asyncio
from collections.abc import Callable, Sequence

from maesh_core.proxy.balancing.health import PassiveHealth
from maesh_core.proxy.middleware.failures import MiddlewareFailures
from maesh_core.proxy.network.clock import Clock
from maesh_core.proxy.network.edges import EdgePoller
from maesh_core.proxy.routing.streams import Streams
from maesh_core.proxy.worker.memory import SharedRegion, WorkerMemory
from maesh_core.proxy.worker.recent_counts import RecentCounts
from maesh_core.settings import ProxySettings


class NodeView:
    """One worker's place in its node."""

    __slots__ = ("_memory", "_sockets", "clock", "failures", "settings")

    def __init__(self, settings: ProxySettings, clock: Clock, memory: WorkerMemory | None = None) -> None:
        self.settings = settings
        self.clock = clock
        self.failures = MiddlewareFailures()
        self._memory = memory or WorkerMemory()
        self._sockets: EdgePoller | None = None

    def __repr__(self) -> str:
        """Show what is shared."""
        return f"<NodeView {self._memory!r}>"

    @property
    def workers(self) -> int:
        """How many workers the node has."""
        return self.settings.workers

    @property
    def slot(self) -> int:
        """Which of them this is, from 0; a worker that dies leaves its number to its successor."""
        return self._memory.slot

    @property
    def sockets(self) -> EdgePoller:
        """What watches raw sockets; there is one once it is asked for."""
        if self._sockets is None:
            self._sockets = EdgePoller(asyncio.get_running_loop())
        return self._sockets

    def share(self, name: str, size: int) -> SharedRegion:
        """Give bytes that every worker of the node sees under this name and size; all zeros at first."""
        return self._memory.share(name, size)

    def count_recent(self, name: str, *, bounds: Sequence[int], periods: int, period_s: float) -> RecentCounts:
        """Give counts of the last periods, of all workers of the node."""
        return RecentCounts(self, name, bounds=bounds, periods=periods, period_s=period_s)

    def build_streams(self, build_counters: Callable[[], object]) -> Streams:
        """Build the routes of a stream protocol, with the proxy's rules for servers that fail."""
        settings = self.settings
        health = PassiveHealth(
            self.clock,
            first_pause_s=settings.server_pause if settings.passive_health else 0.0,
            pause_limit_s=settings.server_pause_limit,
        )
        return Streams(health, self.failures, build_counters)

    def close(self) -> None:
        """Watch no socket any more."""
        if self._sockets is not None:
            self._sockets.close()
