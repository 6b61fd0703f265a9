"""The view of the process and its node for a plugin's half in the proxy.

Created once per worker, in its event loop. Implements `interfaces.Node`.
"""

import asyncio
from collections.abc import Callable, Sequence

from maesh_core.model.keys import cut_port_key
from maesh_core.model.traffic_record import TrafficRecord
from maesh_core.proxy.balancing.health import PassiveHealth
from maesh_core.proxy.callers import CallerCounts
from maesh_core.proxy.middleware.failures import MiddlewareFailures
from maesh_core.proxy.network.clock import Clock
from maesh_core.proxy.network.edges import EdgePoller
from maesh_core.proxy.observers import Observers
from maesh_core.proxy.routing.streams import Streams
from maesh_core.proxy.worker.memory import SharedRegion, WorkerMemory
from maesh_core.proxy.worker.recent_counts import RecentCounts
from maesh_core.settings import ProxySettings


class NodeView:
    """One worker's view of its node."""

    __slots__ = ("_memory", "_sockets", "callers", "clock", "failures", "observers", "settings")

    def __init__(self, settings: ProxySettings, clock: Clock, memory: WorkerMemory | None = None) -> None:
        self.settings = settings
        self.clock = clock
        self.failures = MiddlewareFailures()
        self.callers = CallerCounts(settings.metrics_client_limit, lambda: clock.now)
        self.observers = Observers()
        self._memory = memory or WorkerMemory()
        self._sockets: EdgePoller | None = None

    def __repr__(self) -> str:
        """Show the shared memory."""
        return f"<NodeView {self._memory!r}>"

    @property
    def workers(self) -> int:
        """The number of workers of the node."""
        return self.settings.workers

    @property
    def slot(self) -> int:
        """The number of this worker, from 0; the replacement of a dead worker gets the same number."""
        return self._memory.slot

    @property
    def sockets(self) -> EdgePoller:
        """The watcher of raw sockets, created on first use."""
        if self._sockets is None:
            self._sockets = EdgePoller(asyncio.get_running_loop())
        return self._sockets

    def share(self, name: str, size: int) -> SharedRegion:
        """Return bytes that every worker of the node shares under this name and size; they are zero at first."""
        return self._memory.share(name, size)

    def count_recent(self, name: str, *, bounds: Sequence[int], periods: int, period_s: float) -> RecentCounts:
        """Return counts of the last periods, summed over all workers of the node."""
        return RecentCounts(self, name, bounds=bounds, periods=periods, period_s=period_s)

    @property
    def is_observed(self) -> bool:
        """Whether anything observes traffic."""
        return self.observers.is_active

    def observe(self, record: TrafficRecord) -> None:
        """Pass a record on."""
        self.observers.observe(record)

    def count_connection(self, address: str, service: str) -> None:
        """Count a connection or session of a client address; of a split service, for its service port."""
        self.callers.find(address, cut_port_key(service)).connections += 1

    def build_streams(self, build_counters: Callable[[], object]) -> Streams:
        """Build the routes of a stream protocol, with the proxy's settings for passive health."""
        settings = self.settings
        health = PassiveHealth(
            self.clock,
            first_pause_s=settings.server_pause if settings.passive_health else 0.0,
            pause_limit_s=settings.server_pause_limit,
        )
        return Streams(health, self.failures, build_counters)

    def close(self) -> None:
        """Stop watching sockets."""
        if self._sockets is not None:
            self._sockets.close()
