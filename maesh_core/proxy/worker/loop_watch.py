"""Whether something blocks a worker's event loop, and which call it is.

A beat in the loop measures how late the loop gets round to what is due. A thread of its own looks whether beats come;
while one is overdue, it looks at the stack of the loop's thread. The same call of a plugin seen there twice in a row is
what blocks: it is logged once, and counted. Costs nothing where a request passes.
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
"""How often the loop beats and the thread looks: together 0.2 % of a processor where nothing else goes on."""
LATE_S = 0.1
"""How long a beat is overdue before the thread looks at the stack. A call of 0.32 s is seen for sure."""
CONFIRM_S = 0.02
"""After this time the same call must still be there: one of many short calls is not."""
CALL_LIMIT = 200
"""Calls, by service, that are told apart; more are counted together as `other`."""
CLOSE_LIMIT_S = 1.0
LAG_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

_LOOP_PACKAGES = frozenset({"maesh_core", "asyncio", "uvloop"})
"""What is the loop's own, or the mesh's."""
_PROGRAM = "__main__"
_OTHER = ("other", "")

logger = logging.getLogger(__name__)


class BlockingCall(NamedTuple):
    """A call that the loop waits for: a dotted name, the service that it was made for, and the line it is at."""

    name: str
    service: str
    place: str


class LoopWatch:
    """Watches the loop that it is started in, until it is closed."""

    __slots__ = (
        "_beats",
        "_counts",
        "_due_s",
        "_frames",
        "_handle",
        "_is_told",
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
        frames: Callable[[], Mapping[int, FrameType]] = sys._current_frames,  # noqa: SLF001 - what debuggers use
    ) -> None:
        self._loop, self._time, self._frames = loop, clock, frames
        self._lags = [0] * (len(LAG_BOUNDS_S) + 1)
        self._lag_s = 0.0
        self._beats = 0
        self._due_s = clock()
        self._counts: dict[tuple[str, str], int] = {}
        self._seen: FrameType | None = None
        self._seen_beats = 0
        self._is_told = False
        self._handle: asyncio.TimerHandle | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._thread_id = threading.get_ident()

    def __repr__(self) -> str:
        return f"<LoopWatch beats={self._beats} blocking calls={sum(self._counts.values())}>"

    def start(self) -> None:
        """Begin; to be called in the loop's thread."""
        self._thread_id = threading.get_ident()
        self._due_s = self._time() + BEAT_S
        self._handle = self._loop.call_later(BEAT_S, self._on_beat)
        self._thread = threading.Thread(target=self._run, name="maesh-loop-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop both; the thread has ended when this returns, unless it hangs in a log line."""
        self._stop.set()
        if self._handle is not None:
            self._handle.cancel()
        if self._thread is not None:
            self._thread.join(CLOSE_LIMIT_S)

    def beat(self) -> None:
        """Note that the loop goes round, and how late."""
        now = self._time()
        lag_s = max(0.0, now - self._due_s)
        self._lags[bisect_left(LAG_BOUNDS_S, lag_s)] += 1
        self._lag_s += lag_s
        self._beats += 1
        self._due_s = now + BEAT_S

    def look(self) -> float:
        """Look whether the loop is late, and at what; give the pause before the next look. Runs in the thread."""
        late_s = self._time() - self._due_s
        frame = find_call(self._frames().get(self._thread_id)) if late_s >= LATE_S else None
        if frame is None:
            self._seen = None
            return BEAT_S
        if frame is not self._seen or self._beats != self._seen_beats:
            self._seen, self._seen_beats, self._is_told = frame, self._beats, False
            return CONFIRM_S
        if not self._is_told:
            self._is_told = True
            self._count(describe_call(frame), late_s)
        return BEAT_S

    def collect_metrics(self) -> list[MetricFamily]:
        """Read the counters."""
        return [
            MetricFamily(
                name="maesh_proxy_loop_lag_seconds",
                type="histogram",
                help="How late the event loops of workers did what was due, measured ten times a second in each.",
                samples=[((), Histogram(LAG_BOUNDS_S, tuple(self._lags), self._lag_s))],
            ),
            MetricFamily(
                name="maesh_proxy_blocking_calls",
                type="counter",
                help="Times that a plugin's call was seen to block a worker's event loop, by call and service.",
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
                pause_s = self.look()
            except Exception:  # the thread's edge: to watch must never be what goes wrong
                if not has_failed:
                    logger.exception("the event loop cannot be looked at")
                pause_s, has_failed = BEAT_S, True

    def _count(self, call: BlockingCall, late_s: float) -> None:
        key = (call.name, call.service)
        if key not in self._counts and len(self._counts) >= CALL_LIMIT:
            key = _OTHER
        self._counts[key] = self._counts.get(key, 0) + 1
        if self._counts[key] == 1:
            logger.error(  # the default level shows no warnings
                "%s blocks the event loop (%s%s): for %.2f s no other request of this worker has gone on; told once in "
                "each worker, and counted in maesh_proxy_blocking_calls_total",
                call.name,
                f"service {call.service}, " if call.service else "",
                call.place,
                late_s,
            )


def find_call(frame: FrameType | None) -> FrameType | None:
    """Find in a stack, given by its innermost frame, the outermost call that the loop or the mesh made of other code.

    None where there is none: the loop waits for events, or the mesh itself is at work.
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
        elif is_in_loop and package != _PROGRAM:  # a worker's own program
            return each
    return None


def describe_call(frame: FrameType) -> BlockingCall:
    """Name a call by its module, class and function, and the service of the exchange or connection it was given."""
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
    """Read a service port's key from an argument; only the mesh's own objects are asked: this is not their thread."""
    if name == "service":
        return value if isinstance(value, str) else ""
    if type(value).__module__.partition(".")[0] != "maesh_core":
        return ""
    service = getattr(value, "service", "")
    return cut_port_key(service) if isinstance(service, str) else ""
