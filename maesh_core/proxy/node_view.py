"""What a plugin's half in the proxy may know of the process it runs in, and of the node that this is part of.

Made once for each worker. Implements `hookspecs.Node`.
"""

from collections.abc import Sequence

from maesh_core.proxy.clock import Clock
from maesh_core.proxy.recent_counts import RecentCounts
from maesh_core.proxy.workers.memory import SharedRegion, WorkerMemory
from maesh_core.settings import ProxySettings


class NodeView:
    """One worker's place in its node."""

    __slots__ = ("_memory", "clock", "settings")

    def __init__(self, settings: ProxySettings, clock: Clock, memory: WorkerMemory | None = None) -> None:
        self.settings = settings
        self.clock = clock
        self._memory = memory or WorkerMemory()

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

    def share(self, name: str, size: int) -> SharedRegion:
        """Give bytes that every worker of the node sees under this name and size; all zeros at first."""
        return self._memory.share(name, size)

    def count_recent(self, name: str, *, bounds: Sequence[int], periods: int, period_s: float) -> RecentCounts:
        """Give counts of the last periods, of all workers of the node."""
        return RecentCounts(self, name, bounds=bounds, periods=periods, period_s=period_s)
