"""The interfaces of what the workers of a node share: bytes, and counts of recent values.

Declares protocols and does nothing; `interfaces.Node` returns objects that implement them, and plugins import them from
`maesh_core.plugin`.
"""

from typing import Protocol

# --- the proxy's process ---------------------------------------------------------------------------------------------


class SharedBytes(Protocol):
    """Bytes that all workers of a node see; they are given back when neither `view` nor a cast of it is left."""

    view: memoryview


class Counts(Protocol):
    """How often values occurred."""

    def count(self, first: float, end: float) -> int:
        """Count the values from one bound up to, not including, another."""

    def find_quantile(self, percent: float) -> int:
        """Find the bound below the value that so many percent did not exceed; 0 where nothing was counted."""


class RecentCounts(Protocol):
    """How often values occurred in the last few periods, counted by all workers of a node together.

    Times are those of `time.monotonic`, in seconds.
    """

    def add(self, value: float, now: float, count: int = 1) -> None:
        """Count a value, once or several times."""

    def read(self, now: float, since: float = 0.0) -> Counts:
        """Add up the counts of all workers, without periods that are over too long, or began before `since`."""
