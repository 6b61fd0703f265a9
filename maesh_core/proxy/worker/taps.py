"""The taps of one worker: observers that exist only while a viewer watches, so that they cost nothing otherwise.

Takes the parent's orders and the records of ended traffic; sends the records that pass a filter, in batches. A tap
never delays traffic: above its rate, and while the parent does not read, records are dropped and counted.
"""

import asyncio
import time
from collections.abc import Callable

from maesh_core.model.tap import TappedRecord, build_tapped, compile_filter
from maesh_core.model.traffic_record import TrafficRecord
from maesh_core.proxy.observers import Observers
from maesh_core.proxy.workers.messages import StartTap, Tapped

BATCH_S = 0.1
"""Records are sent at most this long after they were made."""
WINDOW_S = 1.0
"""The rate of a tap is counted in windows of this length."""
TAPS_LIMIT = 16
"""Limit of concurrent taps; the parent has the same limit, and says why it refuses more."""

Send = Callable[[Tapped], None]


class WorkerTaps:
    """The active taps of a worker, by number. Create it in the event loop."""

    __slots__ = ("_clock", "_has_unsent", "_observers", "_send", "_taps")

    def __init__(
        self,
        observers: Observers,
        send: Send,
        *,
        has_unsent: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._observers = observers
        self._send = send
        self._has_unsent = has_unsent
        self._clock = clock
        self._taps: dict[int, Tap] = {}

    def __repr__(self) -> str:
        return f"<WorkerTaps {sorted(self._taps)}>"

    def start(self, order: StartTap) -> None:
        """Start a tap, unless it is active already."""
        if order.tap in self._taps or len(self._taps) >= TAPS_LIMIT:
            return
        tap = self._taps[order.tap] = Tap(order, self._send, has_unsent=self._has_unsent, clock=self._clock)
        self._observers.add(tap)

    def stop(self, number: int) -> None:
        """End a tap, if it is active; its last records are discarded, since nobody watches."""
        tap = self._taps.pop(number, None)
        if tap is not None:
            self._observers.remove(tap)
            tap.discard()

    def flush(self) -> None:
        """Send all records at once."""
        for tap in self._taps.values():
            tap.close()


class Tap:
    """One tap. Implements TrafficObserver."""

    __slots__ = (
        "_clock",
        "_dropped",
        "_has_unsent",
        "_number",
        "_passes",
        "_rate",
        "_records",
        "_send",
        "_shown",
        "_timer",
        "_window_s",
        "name",
    )

    def __init__(
        self, order: StartTap, send: Send, *, has_unsent: Callable[[], bool], clock: Callable[[], float]
    ) -> None:
        self.name = "tap"
        self._number = order.tap
        self._passes = compile_filter(order.filter)
        self._rate = order.rate
        self._send = send
        self._has_unsent = has_unsent
        self._clock = clock
        self._records: list[TappedRecord] = []
        self._dropped = 0
        self._shown = 0
        self._window_s = clock()
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Tap {self._number}, {len(self._records)} records, {self._dropped} dropped>"

    def observe(self, record: TrafficRecord) -> None:
        """Keep a record for the next batch if it passes the filter and the rate allows it."""
        if not self._passes(record):
            return
        now_s = self._clock()
        if now_s - self._window_s >= WINDOW_S:
            self._window_s = now_s
            self._shown = 0
        if self._shown < self._rate:
            self._shown += 1
            self._records.append(build_tapped(record))
        else:
            self._dropped += 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(BATCH_S, self._flush)

    def close(self) -> None:
        """Send what there is at once."""
        if self._timer is not None:
            self._flush()

    def discard(self) -> None:
        """Send nothing more."""
        self._records = []
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _flush(self) -> None:
        records, dropped = self._records, self._dropped
        self.discard()
        if self._has_unsent():  # the parent has not read the batch before
            self._dropped += len(records)
            return
        self._dropped = 0
        self._send(Tapped(tap=self._number, records=records, dropped=dropped))
