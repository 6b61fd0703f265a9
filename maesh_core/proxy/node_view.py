"""What a plugin's half in the proxy may know of the process it runs in, and of the node that this is part of.

Made once for each worker. Implements `hookspecs.Node`.
"""

from maesh_core.proxy.clock import Clock
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

    def share(self, name: str, size: int) -> SharedRegion:
        """Give bytes that every worker of the node sees under this name and size; all zeros at first."""
        return self._memory.share(name, size)
