"""Repeats runs that other programs disturbed, and waits until the cores are quiet.

Takes readings of the cores, and functions that measure and render one run. The waits of a stage are limited together.
"""

import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from processes import TICKS_PER_S, measure_cores

FOREIGN_SHARE = 0.1
"""A run during which other programs used more than this share of the cores is repeated."""
QUIET_S, PATIENCE_S = 3, 1800

Cores = dict[int, tuple[int, int]]


class DisturbedRun(Protocol):
    """A run that other programs may have disturbed."""

    @property
    def foreign_share(self) -> float:
        """The share of the cores that other programs used."""

    @property
    def wrong(self) -> list[str]:
        """What makes the run doubtful."""


RunT = TypeVar("RunT", bound=DisturbedRun)


class Patience:
    """The time that a stage may spend on repeating runs."""

    def __init__(self, left_s: float = PATIENCE_S) -> None:
        self._left_s = left_s

    def measure(self, measure: Callable[[], RunT], render: Callable[[RunT], str]) -> RunT:
        """Measure one run; while other programs disturb it, wait for quiet and measure it again."""
        while True:
            begin = time.monotonic()
            run = measure()
            if run.foreign_share <= FOREIGN_SHARE:
                return run
            if self._left_s <= 0:
                run.wrong.append(f"other programs took {run.foreign_share:.0%} of the cores")
                return run
            print(f"disturbed, so once more: {render(run)}", flush=True)
            wait_for_quiet(self._left_s)
            self._left_s -= time.monotonic() - begin


def compute_foreign_share(before: Cores, after: Cores, ours_s: float) -> float:
    """Compute the share of all cores that other programs used; `ours_s` is the CPU time of the benchmark."""
    busy = sum(after[core][0] - before[core][0] for core in before)
    return max(0.0, busy - ours_s * TICKS_PER_S) / max(1, sum(after[core][1] - before[core][1] for core in before))


def wait_for_quiet(limit_s: float) -> None:
    """Wait until the cores have been idle for a while, or until the limit."""
    begin, quiet_s = time.monotonic(), 0
    while quiet_s < QUIET_S and time.monotonic() - begin < limit_s:
        cores = measure_cores()
        time.sleep(1)
        quiet_s = quiet_s + 1 if compute_foreign_share(cores, measure_cores(), 0.0) < FOREIGN_SHARE else 0
