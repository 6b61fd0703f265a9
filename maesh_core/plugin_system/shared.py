"""The interfaces of what the workers of a node share: bytes, and counts of recent values.

Declares protocols and does nothing; `interfaces.Node` returns objects that implement them, and plugins import them from
`maesh_core.plugin`.
"""

from typing import Protocol

# --- the proxy's process ---------------------------------------------------------------------------------------------


class SharedBytes(Protocol):
    """Memory that all workers of a node share; it is released when neither `view` nor a cast of it exists any more."""

    view: memoryview


class Counts(Protocol):
    """Numbers of values, between bounds."""

    def count(self, first: float, end: float) -> int:
        """Return the number of values between two bounds; the first is included, the end is not."""

    def find_quantile(self, percent: float) -> int:
        """Return the bound below the given percentile; 0 if nothing was counted."""


class RecentCounts(Protocol):
    """A histogram of values in the last few periods, counted by all workers of a node together.

    Times are those of `time.monotonic`, in seconds.
    """

    def add(self, value: float, now: float, count: int = 1) -> None:
        """Count a value `count` times."""

    def read(self, now: float, since: float = 0.0) -> Counts:
        """Return the sum of all workers' counts, without expired periods and those that began before `since`."""
