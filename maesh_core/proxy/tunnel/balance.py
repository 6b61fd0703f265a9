"""Spreads the incoming tunnels of a node over its workers, which share a port (SO_REUSEPORT).

The kernel chooses the worker of each connection by a hash, so both tunnels of a sender with two workers reach the same
one in half of all cases. Workers publish how many tunnels they have; one that has several more than another replaces
one of them: its sender opens a new one for new streams, which the kernel assigns anew, and no stream fails.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from maesh_core.plugin_system.node import Node
from maesh_core.proxy.tunnel.limits import BALANCE_INTERVAL_S

_NUMBER_BYTES: Final = 8
_EXCESS: Final = 2
"""With one more than another worker, a tunnel that moves would only turn the difference around."""


class Replaceable(Protocol):
    """An incoming tunnel."""

    __slots__ = ()

    def retire(self) -> None:
        """Accept no further streams, and end after the last one."""


class WorkerBalance:
    """The share of one worker. A node with one worker has nothing to spread."""

    __slots__ = ("_checked_at", "_numbers", "_shared", "_slot")

    def __init__(self, node: Node) -> None:
        self._slot = node.slot
        self._checked_at = node.clock.now
        self._shared = node.share("maesh-tunnels", _NUMBER_BYTES * node.workers) if node.workers > 1 else None
        self._numbers: memoryview | None = None
        if self._shared is not None:
            self._numbers = self._shared.view.cast("q")
            self._numbers[self._slot] = 0

    def __repr__(self) -> str:
        return f"<WorkerBalance {list(self._numbers) if self._numbers is not None else []}>"

    def sweep(self, now: float, connections: Sequence[Replaceable]) -> None:
        """Publish the number of tunnels that accept streams; replace the youngest if another worker has far fewer."""
        numbers = self._numbers
        if numbers is None:
            return
        numbers[self._slot] = len(connections)
        if now - self._checked_at < BALANCE_INTERVAL_S:
            return
        self._checked_at = now
        if len(connections) - min(numbers) >= _EXCESS:
            connections[-1].retire()
            numbers[self._slot] -= 1

    def close(self) -> None:
        """Stop publishing."""
        if self._numbers is not None:
            self._numbers[self._slot] = 0
            self._numbers.release()
            self._numbers = self._shared = None
