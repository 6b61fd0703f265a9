"""Histograms of values in the last seconds or minutes, over all workers of a node.

Values are counted per interval between bounds, so memory and time do not depend on the number of values. Each worker
writes to its own part of a shared region, and reads all parts.
"""

from bisect import bisect_right
from collections.abc import Sequence
from math import ceil
from typing import Protocol


class _Shared(Protocol):
    view: memoryview


class _Sharing(Protocol):
    @property
    def workers(self) -> int: ...

    @property
    def slot(self) -> int: ...

    def share(self, name: str, size: int) -> _Shared: ...


class Counts:
    """Implements `node.Counts`: the counts by column."""

    __slots__ = ("_bounds", "_columns")

    def __init__(self, bounds: Sequence[int], columns: Sequence[int]) -> None:
        self._bounds = bounds
        self._columns = columns

    def __repr__(self) -> str:
        """Show the number of values."""
        return f"<Counts of {sum(self._columns)} values>"

    def count(self, first: float, end: float) -> int:
        """Return the number of values between two bounds; the first is included, the end is not."""
        return sum(self._columns[bisect_right(self._bounds, first) : bisect_right(self._bounds, end)])

    def find_quantile(self, percent: float) -> int:
        """Return the bound below the given percentile; 0 if nothing was counted."""
        rank, seen = ceil(sum(self._columns) * percent / 100), 0
        for index, count in enumerate(self._columns):
            seen += count
            if count and seen >= rank:
                return self._bounds[index - 1] if index else 0
        return 0


class RecentCounts:
    """Implements `node.RecentCounts`: one column per interval between bounds, one row per period.

    The first cell of a row is the number of its period. `_begin` and `_end` limit the period of this worker's current
    row, which starts at `_row`.
    """

    __slots__ = (
        "_begin",
        "_bounds",
        "_cells",
        "_end",
        "_own",
        "_period",
        "_row",
        "_rows",
        "_shared",
        "_width",
        "_zeros",
    )

    def __init__(self, node: _Sharing, name: str, *, bounds: Sequence[int], periods: int, period_s: float) -> None:
        self._bounds = sorted(set(bounds))
        self._rows, self._width, self._period = periods, len(self._bounds) + 2, period_s
        self._shared = node.share(f"{name}/{periods}x{self._width}", 8 * node.workers * periods * self._width)
        self._cells = self._shared.view.cast("q")
        self._own = node.slot * periods * self._width
        self._zeros = memoryview(bytes(8 * self._width)).cast("q")
        self._begin = self._end = 0.0
        self._row = 0

    def __repr__(self) -> str:
        """Show the shape."""
        return f"<RecentCounts of {self._rows} periods, {len(self._bounds)} bounds>"

    def add(self, value: float, now: float, count: int = 1) -> None:
        """Count a value `count` times."""
        if not self._begin <= now < self._end:
            self._select_row(now)
        self._cells[self._row + bisect_right(self._bounds, value)] += count

    def _select_row(self, now: float) -> None:
        """Switch to the row of the current period, and clear it if it belongs to an earlier one."""
        number, cells = int(now // self._period), self._cells
        row = self._own + number % self._rows * self._width
        if cells[row] != number:
            cells[row : row + self._width] = self._zeros
            cells[row] = number
        self._row, self._begin, self._end = row + 1, number * self._period, (number + 1) * self._period

    def read(self, now: float, since: float = 0.0) -> Counts:
        """Return the sum of all workers' counts, without expired periods and those that began before `since`."""
        oldest = max(now // self._period - self._rows + 1, ceil(since / self._period), 1)
        cells, width = self._cells.tolist(), self._width
        rows = [cells[row + 1 : row + width] for row in range(0, len(cells), width) if cells[row] >= oldest]
        return Counts(self._bounds, [sum(column) for column in zip(*rows, strict=True)])
