"""A limit that follows the latency of servers, as TCP's congestion control does (TCP Vegas; Netflix Gradient2).

The latency at low load is the smallest mean of a window in the last five minutes. While the latency stays within twice
that, the limit grows by its square root in each window; above, it shrinks in proportion, by half at most. It grows only
while half of it is used. The workers of a node share the limit: each measures its own windows, and applies its share of
each change.
"""

import math
from collections import deque
from typing import Final

from maesh_core.plugin import Node

FIRST_LIMIT: Final = 20
"""The limit before the first measurement, low enough to measure the latency at low load first (Netflix)."""
WINDOW_S: Final = 1.0
WINDOW_SAMPLES: Final = 20
"""A window ends after this time, once it has this many samples, so that single requests do not change the limit."""
WINDOW_LIMIT_S: Final = 30.0
"""A window that has not ended after this time is dropped, because its samples are from different loads."""
TOLERANCE: Final = 2.0
"""Latencies up to this multiple of the latency at low load are normal."""
SMALLEST_FACTOR: Final = 0.5
"""The smallest factor by which one window changes the limit."""
PERIOD_S: Final = 30.0
PERIODS: Final = 10
"""The smallest latency of this many periods is remembered."""


class AdaptiveLimit:
    """The limit of one service. Samples include the number of running requests: an unused limit must not grow."""

    def __init__(self, node: Node, name: str, *, smallest: int, largest: int) -> None:
        self._cell = node.share(f"concurrency/adaptive/{name}", 8).view.cast("d")
        self._smallest, self._largest, self._workers = float(smallest), float(largest), node.workers
        if not self._cell[0]:
            self._cell[0] = min(self._largest, max(self._smallest, FIRST_LIMIT))
        self._begun_at = 0.0
        self._count = 0
        self._total_s = 0.0
        self._most_running = 0
        self._baselines: deque[tuple[float, float]] = deque(maxlen=PERIODS)
        """The start of each period, and the smallest mean latency in it."""

    def __repr__(self) -> str:
        return f"<AdaptiveLimit {self.read()} from {self._smallest:g} to {self._largest:g}>"

    def read(self) -> int:
        """Return the current limit."""
        return int(min(self._largest, max(self._smallest, self._cell[0])))

    def add_sample(self, latency_s: float, running: int, now: float) -> None:
        """Add an attempt, with the number of running requests; change the limit when the window is complete."""
        if not self._count or now - self._begun_at > WINDOW_LIMIT_S:
            self._begun_at, self._count, self._total_s, self._most_running = now, 0, 0.0, 0
        self._count += 1
        self._total_s += latency_s
        if running > self._most_running:
            self._most_running = running
        if self._count >= WINDOW_SAMPLES and now - self._begun_at >= WINDOW_S:
            mean_s, most, self._count = self._total_s / self._count, self._most_running, 0
            self._change(mean_s, most, now)

    def _change(self, mean_s: float, most_running: int, now: float) -> None:
        """Change the limit by a window's mean latency."""
        baseline_s = self._remember(mean_s, now)
        limit = min(self._largest, max(self._smallest, self._cell[0]))
        gradient = min(1.0, max(SMALLEST_FACTOR, TOLERANCE * baseline_s / mean_s)) if mean_s > 0 else 1.0
        if gradient == 1.0:
            if most_running * 2 < limit:  # the limit is not what keeps the load low
                return
            wanted = limit + math.sqrt(limit)
        else:
            wanted = limit * gradient
        changed = limit + (wanted - limit) / self._workers
        self._cell[0] = min(self._largest, max(self._smallest, changed))

    def _remember(self, mean_s: float, now: float) -> float:
        """Remember the smallest latency of this period; return the smallest of all that are not too old."""
        while self._baselines and now - self._baselines[0][0] > PERIOD_S * PERIODS:
            self._baselines.popleft()
        if not self._baselines or now - self._baselines[-1][0] >= PERIOD_S:
            self._baselines.append((now, mean_s))
        elif mean_s < self._baselines[-1][1]:
            self._baselines[-1] = (self._baselines[-1][0], mean_s)
        return min(smallest for _, smallest in self._baselines)
