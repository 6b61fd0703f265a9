"""Detects calls that block a worker's event loop.

A periodic beat in the loop measures how late the loop runs. A separate thread checks the beats; while one is overdue,
it inspects the stack of the loop's thread. If it sees the same call of a plugin twice in a row, that call blocks the
loop: it is counted, and logged once. Requests do no additional work.
"""

import asyncio
import logging
import sys
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping
from types import FrameType
from typing import NamedTuple

from maesh_core.model.keys import cut_port_key
from maesh_core.model.metrics import Histogram, MetricFamily

BEAT_S = 0.1
"""The interval of the beats and of the thread's checks; both use 0.2 % of a processor when nothing else runs."""
LATE_S = 0.1
"""The thread inspects the stack when a beat is this late. A call of 0.32 s is always detected."""
CONFIRM_S = 0.02
"""The same call must still run after this time; a sequence of short calls does not count."""
CALL_LIMIT = 200
"""Different calls, by service, that are counted separately; further ones are counted as `other`."""
CLOSE_LIMIT_S = 1.0
LAG_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

_LOOP_PACKAGES = frozenset({"maesh_core", "asyncio", "uvloop"})
"""The packages of the loop and of the mesh."""
_PROGRAM = "__main__"
_OTHER = ("other", "")

logger = logging.getLogger(__name__)


class BlockingCall(NamedTuple):
    """A call that blocks the loop: its dotted name, the service it was made for, and its current line."""

    name: str
    service: str
    place: str


class LoopWatch:
    """Watches the event loop that starts it, until it is closed."""

    __slots__ = (
        "_beats",
        "_counts",
        "_due_s",
        "_frames",
        "_handle",
        "_is_logged",
        "_lag_s",
        "_lags",
        "_loop",
        "_seen",
        "_seen_beats",
        "_stop",
        "_thread",
        "_thread_id",
        "_time",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        clock: Callable[[], float] = time.monotonic,
        frames: Callable[[], Mapping[int, FrameType]] = sys._current_frames,  # noqa: SLF001 - debuggers use it too
    ) -> None:
        self._loop, self._time, self._frames = loop, clock, frames
        self._lags = [0] * (len(LAG_BOUNDS_S) + 1)
        self._lag_s = 0.0
        self._beats = 0
        self._due_s = clock()
        self._counts: dict[tuple[str, str], int] = {}
        self._seen: FrameType | None = None
        self._seen_beats = 0
        self._is_logged = False
        self._handle: asyncio.TimerHandle | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._thread_id = threading.get_ident()

    def __repr__(self) -> str:
        return f"<LoopWatch beats={self._beats} blocking calls={sum(self._counts.values())}>"

    def start(self) -> None:
        """Start watching; call this in the loop's thread."""
        self._thread_id = threading.get_ident()
        self._due_s = self._time() + BEAT_S
        self._handle = self._loop.call_later(BEAT_S, self._on_beat)
        self._thread = threading.Thread(target=self._run, name="maesh-loop-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the beats, and end the thread; wait for that unless writing a log line blocks it."""
        self._stop.set()
        if self._handle is not None:
            self._handle.cancel()
        if self._thread is not None:
            self._thread.join(CLOSE_LIMIT_S)

    def beat(self) -> None:
        """Record that the loop runs, and how late."""
        now = self._time()
        lag_s = max(0.0, now - self._due_s)
        self._lags[bisect_left(LAG_BOUNDS_S, lag_s)] += 1
        self._lag_s += lag_s
        self._beats += 1
        self._due_s = now + BEAT_S

    def check(self) -> float:
        """Check whether a call blocks the loop; return the pause before the next check. Runs in the thread."""
        late_s = self._time() - self._due_s
        frame = find_call(self._frames().get(self._thread_id)) if late_s >= LATE_S else None
        if frame is None:
            self._seen = None
            return BEAT_S
        if frame is not self._seen or self._beats != self._seen_beats:
            self._seen, self._seen_beats, self._is_logged = frame, self._beats, False
            return CONFIRM_S
        if not self._is_logged:
            self._is_logged = True
            self._count(describe_call(frame), late_s)
        return BEAT_S

    def collect_metrics(self) -> list[MetricFamily]:
        """Return the metrics."""
        return [
            MetricFamily(
                name="maesh_proxy_loop_lag_seconds",
                type="histogram",
                help="Delay of the workers' event loops, measured ten times per second in each.",
                samples=[((), Histogram(LAG_BOUNDS_S, tuple(self._lags), self._lag_s))],
            ),
            MetricFamily(
                name="maesh_proxy_blocking_calls",
                type="counter",
                help="Calls of plugins that blocked a worker's event loop, by call and service.",
                labels=("call", "service"),
                samples=[(key, count) for key, count in sorted(self._counts.copy().items())],
            ),
        ]

    def _on_beat(self) -> None:
        self._handle = self._loop.call_later(BEAT_S, self._on_beat)
        self.beat()

    def _run(self) -> None:
        pause_s, has_failed = BEAT_S, False
        while not self._stop.wait(pause_s):
            try:
                pause_s = self.check()
            except Exception:  # an error of the watch must not affect the worker
                if not has_failed:
                    logger.exception("cannot watch the event loop")
                pause_s, has_failed = BEAT_S, True

    def _count(self, call: BlockingCall, late_s: float) -> None:
        key = (call.name, call.service)
        if key not in self._counts and len(self._counts) >= CALL_LIMIT:
            key = _OTHER
        self._counts[key] = self._counts.get(key, 0) + 1
        if self._counts[key] == 1:
            logger.error(
                "%s blocks the event loop (%s%s): the worker has processed no other request for %.2f s; logged once "
                "per worker, counted in maesh_proxy_blocking_calls_total",
                call.name,
                f"service {call.service}, " if call.service else "",
                call.place,
                late_s,
            )


def find_call(frame: FrameType | None) -> FrameType | None:
    """Find the outermost call of other code by the loop or the mesh, in the stack that ends at `frame`.

    Returns None if there is none: the loop waits for events, or the mesh itself is running.
    """
    stack = []
    while frame is not None:
        stack.append(frame)
        frame = frame.f_back
    is_in_loop = False
    for each in reversed(stack):
        package = str(each.f_globals.get("__name__", "")).partition(".")[0]
        if package in _LOOP_PACKAGES:
            is_in_loop = True
        elif is_in_loop and package != _PROGRAM:  # `__main__` is the worker's own program
            return each
    return None


def describe_call(frame: FrameType) -> BlockingCall:
    """Return a call's module, class and function, and the service of the exchange or connection in its arguments."""
    code, module = frame.f_code, str(frame.f_globals.get("__name__", "?"))
    local = frame.f_locals
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    owner = type(local["self"]) if names[:1] == ("self",) and "self" in local else None
    called = f"{module}.{code.co_qualname}"
    if owner is not None:
        called = f"{owner.__module__}.{owner.__qualname__}.{code.co_name}"
    service = next((found for name in names if (found := _find_service(name, local.get(name)))), "")
    return BlockingCall(called, service, f"{code.co_filename} line {frame.f_lineno}")


def _find_service(name: str, value: object) -> str:
    """Return the service port's key from an argument; read only the mesh's objects, as this is another thread."""
    if name == "service":
        return value if isinstance(value, str) else ""
    if type(value).__module__.partition(".")[0] != "maesh_core":
        return ""
    service = getattr(value, "service", "")
    return cut_port_key(service) if isinstance(service, str) else ""
